"""
Writes docs/verify-cases.md: the table that `halfstep verify` prints, with what the cases are and what made them.

    halfstep verify OUT --markdown > table.md
    python bench/peers/cases/page.py OUT table.md > docs/verify-cases.md
"""
import json
import sys
from pathlib import Path

INTRO = """# Reference cases

Small networks and pipelines with random weights, made by diffusers, and how far halfstep is from what diffusers gives for them. `bench/peers/cases` makes
them, always with the same numbers; this page is what `halfstep verify` says of them:

```
bench/peers/setup.sh ENVIRONMENT -r bench/peers/cases/requirements.txt
ENVIRONMENT/bin/python bench/peers/cases OUT
halfstep verify OUT --markdown
```

- **Largest error / std** is the largest absolute difference over the standard deviation of diffusers' output, of the output that is furthest off.
  Networks pass up to 1e-4, whole pipelines up to 1e-3.
- **Networks** are compared with diffusers in float64. **Whole runs** start from the recorded noise and embeddings: the latent after each step, the decoded
  image, and what the text encoders make of the prompt.
- **8-bit images** are drawn from the prompt and the seed alone, and from an image's pixels, by the pipeline as users call it. They pass within 1 of 255. It is
  empty for runs with another scheduler than the pipeline's own, and for networks.
- **Refused** are settings and files that halfstep does not have; the message has to say so.
- LoRAs are compared both ways in which diffusers runs them: beside the weights, and merged into them.
"""


def main(folder, table):
    versions = json.loads((Path(folder) / "versions.json").read_text())
    rows = Path(table).read_text().strip()
    print(INTRO)
    print(f"Made with {', '.join(f'{name} {version}' for name, version in versions.items())}.\n")
    print(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
