"""How OpenAI's diffusion models were shown pictures: halved by boxes, then bicubic."""

from PIL import Image


def box_bicubic(picture: Image.Image, side: int) -> Image.Image:
    """The middle side x side of a picture whose shorter side is made `side`.

    It is halved by Pillow's box filter (each pixel the mean of 2 x 2, where the sides are even) for
    as long as its shorter side is at least twice what is wanted, and then resized by the bicubic
    one. Of an odd rest beside the middle the larger half is cut off behind it.

    Args:
        picture: of 8 bits a channel.
        side: in pixels, at least 1.

    Source: openai/guided-diffusion, guided_diffusion/image_datasets.py (center_crop_arr).
    """
    width, height = picture.size
    while min(width, height) >= 2 * side:
        width, height = width // 2, height // 2
        picture = picture.resize((width, height), Image.Resampling.BOX)
    scale = side / min(width, height)
    width, height = round(width * scale), round(height * scale)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    return picture.crop((left, top, left + side, top + side))
