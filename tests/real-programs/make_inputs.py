"""Makes the inputs of `just real-programs` that nobody can write by hand: `python3 make_inputs.py`.

All are small and hold numbers that a formula makes. The formats that no module of the suite writes
are made after their public descriptions: only the fields that a reader looks at are set.

The `.iwi.cbor` files are not made here: they are what ITK's own reader makes of the `.nrrd` files.
"""

import pathlib
import random
import struct

INPUTS = pathlib.Path(__file__).parent / "inputs"
WIDTH, HEIGHT, DEPTH = 12, 10, 4


def voxel(x, y, z):
    return (x * x * 3 + y * 17 * (1 if (x + y) % 3 else 2) + z * 101) % 1000 - 100


def colour(x, y):
    return (x * 10 + y) % 256, (y * 15 + x * 3) % 256, (x * y * 5) % 256


def rows(width, height, cell):
    return "\n".join(" ".join(cell(x, y) for x in range(width)) for y in range(height)) + "\n"


def slice_of(z, kind):
    """One slice of the volume, row by row."""
    values = [voxel(x, y, z) for y in range(HEIGHT) for x in range(WIDTH)]
    return struct.pack(f"{kind[0]}{len(values)}{kind[1]}", *values)


def volume_nrrd():
    slices = [rows(WIDTH, HEIGHT, lambda x, y: str(voxel(x, y, z))) for z in range(DEPTH)]
    return (
        "NRRD0004\n# A small volume of signed shorts.\ntype: short\ndimension: 3\n"
        "space: left-posterior-superior\n"
        f"sizes: {WIDTH} {HEIGHT} {DEPTH}\nspace directions: (0.5,0,0) (0,0.75,0) (0,0,2)\n"
        "space origin: (-3,4,10)\nkinds: domain domain domain\nencoding: ascii\n\n" + "".join(slices)
    ).encode()


def picture_nrrd():
    return (
        "NRRD0004\n# A small picture in colour.\ntype: uchar\ndimension: 3\nsizes: 3 24 16\n"
        "kinds: RGB-color domain domain\nencoding: ascii\n\n"
        + rows(24, 16, lambda x, y: " ".join(map(str, colour(x, y))))
    ).encode()


def levels_nrrd():
    slices = [rows(WIDTH, HEIGHT, lambda x, y: str(voxel(x, y, z) % 256)) for z in range(DEPTH)]
    return (
        "NRRD0004\n# A small volume of grey levels.\ntype: uchar\ndimension: 3\n"
        f"sizes: {WIDTH} {HEIGHT} {DEPTH}\nspacings: 0.5 0.75 2\nencoding: ascii\n\n" + "".join(slices)
    ).encode()


def slice_fdf():
    """Varian's FDF: lines of C declarations, a zero byte, the values."""
    header = (
        "#!/usr/local/fdf/startup\n"
        "float  rank = 2;\n"
        'char  *spatial_rank = "2dfov";\n'
        'char  *storage = "float";\n'
        "float  bits = 32;\n"
        f"float  matrix[] = {{{WIDTH}, {HEIGHT}}};\n"
        "float  span[] = {0.6, 0.75};\n"
        "float  origin[] = {-3.0, 4.0};\n"
        "float  roi[] = {0.6, 0.75};\n"
        "float  location[] = {0.0, 0.0, 1.0};\n"
        "int    bigendian = 0;\n"
        "int    checksum = 0;\n"
    )
    return header.encode() + b"\x0c\n\0" + slice_of(1, "<f")


def fields(size, values):
    """A header of zeros but for these: offset, format, value."""
    header = bytearray(size)
    for offset, kind, value in values:
        value = value.encode() if isinstance(value, str) else value
        struct.pack_into(">" + kind, header, offset, value)
    return bytes(header)


def data_general(value):
    """A floating-point number of Data General's machines: base 16, excess 64, four bytes."""
    exponent = 64
    while value >= 1:
        value, exponent = value / 16, exponent + 1
    return exponent << 24 | int(value * (1 << 24))


def slice_ge4():
    """GE Signa 4.x: headers of 16-bit words at 1536, 2048 and 2560 words' bytes, then the values."""
    study, series, image = 6 * 256 * 2, 8 * 256 * 2, 10 * 256 * 2
    header = fields(
        7 * 2048,
        [
            (study + 39 * 2, "10s", "24-NOV-26 "),
            (study + 54 * 2, "32s", "NOBODY"),
            (study + 70 * 2, "12s", "000"),
            (study + 32 * 2, "6s", "1"),
            (series + 151 * 2, "I", data_general(6.0)),
            (series + 139 * 2, "16s", "AXIAL"),
            (series + 31 * 2, "4s", "1"),
            (image + 44 * 2, "4s", "1"),
            (image + 300 * 2, "4s", "1"),
            (image + 77 * 2, "I", data_general(2.0)),
            (image + 137 * 2, "h", WIDTH),
            (image + 138 * 2, "h", HEIGHT),
            (image + 139 * 2, "I", data_general(0.5)),
            (image + 98 * 2, "h", 1),
            (image + 99 * 2, "h", 1),
            (image + 100 * 2, "h", 1),
        ],
    )
    return header + slice_of(1, ">h")


def slice_ge5():
    """GE Genesis 5.x: a header that says where the exam, the series and the image are described."""
    exam, series, image, values = 256, 1280, 2300, 8192
    header = fields(
        values,
        [
            (0, "4s", "IMGF"),
            (4, "i", values),
            (8, "i", WIDTH),
            (12, "i", HEIGHT),
            (16, "i", 16),
            (20, "i", 1),
            (52, "h", 3),
            (132, "i", exam),
            (136, "i", 1024),
            (140, "i", series),
            (144, "i", 1020),
            (148, "i", image),
            (152, "i", 1022),
            (exam + 8, "h", 1),
            (exam + 10, "34s", "NOWHERE"),
            (exam + 305, "3s", "MR"),
            (series + 10, "h", 1),
            (image + 12, "h", 1),
            (image + 26, "f", 2.0),
            (image + 30, "h", WIDTH),
            (image + 32, "h", HEIGHT),
            (image + 34, "f", 6.0),
            (image + 38, "f", 7.5),
            (image + 50, "f", 0.5),
            (image + 54, "f", 0.75),
            (image + 114, "h", 2),
            (image + 150, "f", 1.0),
            (image + 154, "f", 3.0),
            (image + 158, "f", -4.0),
            (image + 162, "f", 10.0),
            (image + 166, "f", -3.0),
            (image + 170, "f", -4.0),
            (image + 174, "f", 10.0),
            (image + 178, "f", -3.0),
            (image + 182, "f", -11.5),
            (image + 186, "f", 10.0),
            (image + 210, "h", 1),
            (image + 212, "h", 1),
            (image + 398, "h", 1),
        ],
    )
    return header + slice_of(1, ">h")


def slice_adw():
    """GE Advantage Windows: a fixed header of 3228 bytes, then a variable one that says its length."""
    variable = 16
    header = fields(
        3228 + variable,
        [
            (7, "13s", "ADW"),
            (204, "13s", "000"),
            (217, "25s", "NOBODY"),
            (425, "3s", "MR"),
            (1166, "h", 1),
            (2196, "h", 1),
            (2212, "f", 2.0),
            (2216, "h", WIDTH),
            (2218, "h", HEIGHT),
            (2220, "f", 6.0),
            (2236, "f", 0.5),
            (2240, "f", 0.75),
            (2300, "h", 2),
            (2400, "h", 1),
            (2402, "h", 1),
            (2408, "f", 1.0),
            (2600, "h", 1),
            (3232, "i", variable),
        ],
    )
    return header + slice_of(1, ">h")


def pattern(seed):
    numbers = random.Random(seed)
    return "".join(f"{numbers.randrange(256):02x}\n" for _ in range(256)).encode()


def main():
    made = {
        "volume.nrrd": volume_nrrd(),
        "picture.nrrd": picture_nrrd(),
        "levels.nrrd": levels_nrrd(),
        "slice.fdf": slice_fdf(),
        "slice.ge4": slice_ge4(),
        "slice.ge5": slice_ge5(),
        "slice.adw": slice_adw(),
        "pattern.hex": pattern(1),
        "other-pattern.hex": pattern(2),
    }
    for name, contents in made.items():
        (INPUTS / name).write_bytes(contents)
        print(f"{name}  {len(contents)} bytes")


if __name__ == "__main__":
    main()
