"""`python -m diffsmooth`."""

from diffsmooth.cli.main import main

if __name__ == "__main__":
    main()
