"""What setup.cfg cannot say: a wheel takes along files that a clone keeps elsewhere."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = Path("diffsmooth/shipped")


class BuildWithShipped(build_py):
    """Copies what SHIPPED/files.txt lists beside it; an editable install reads the clone's own."""

    def build_package_data(self) -> None:
        super().build_package_data()
        for place in map(Path, (SHIPPED / "files.txt").read_text().split()):
            self.copy_file(str(place), str(Path(self.build_lib) / SHIPPED / place.name))


setup(cmdclass={"build_py": BuildWithShipped})
