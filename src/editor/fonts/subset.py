#!/usr/bin/env python3
"""Makes the fonts beside this file from Inter 4.0 (Debian's package fonts-inter), with fontTools (python3-fonttools).

Only what the editor writes stays: Latin, punctuation, a few signs. Digits are Inter's own of equal width (its feature
`tnum`), so that numbers don't shake while they change. Other scripts are drawn by the fonts that egui brings.
"""

from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

SOURCE = Path("/usr/share/fonts/opentype/inter")
HERE = Path(__file__).parent
CHARACTERS = [*range(0x20, 0x7F), *range(0xA0, 0x180), *map(ord, "ΔΩμ–—‘’“”•…‹›−×·←↑→↓↩↪≤≥≈°")]


def main() -> None:
    for weight in ("Regular", "SemiBold"):
        font = TTFont(SOURCE / f"Inter-{weight}.otf")
        gsub = font["GSUB"].table
        lookups = {i for f in gsub.FeatureList.FeatureRecord if f.FeatureTag == "tnum" for i in f.Feature.LookupListIndex}
        equal = {}
        for index in lookups:
            for part in gsub.LookupList.Lookup[index].SubTable:
                equal.update(getattr(part, "ExtSubTable", part).mapping)
        for table in font["cmap"].tables:
            for digit in map(ord, "0123456789"):
                if table.cmap.get(digit) in equal:
                    table.cmap[digit] = equal[table.cmap[digit]]
        options = subset.Options(layout_features=["kern", "mark", "ccmp"], hinting=False, desubroutinize=True)
        options.name_IDs = [0, 1, 2, 13, 14]
        worker = subset.Subsetter(options)
        worker.populate(unicodes=CHARACTERS)
        worker.subset(font)
        font.save(HERE / f"Inter-{weight}.otf")


if __name__ == "__main__":
    main()
