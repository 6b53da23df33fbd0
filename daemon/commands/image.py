"""Masks, boxes and an annotated copy of single pictures.

The folder gets <stem>.masks.jpg and <stem>.json, which is the header of a `masks` message.

examples:
  maskcast image street.jpg --prompt person "red car"
  maskcast image *.png --prompt "red circle" --detector embedded --segmenter embedded --out found
"""

import json
import sys
import time
import uuid
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon.cli import log
from daemon.cli.flags import add_prompt_flag, add_settings_flags, load_settings
from daemon.cli.prompt_words import split_prompts
from daemon.cli.stream_names import stream_name, unique
from stages.detection.prompts import Prompt, parse_prompts
from stages.errors import ConfigError, OutputError, SourceError

if TYPE_CHECKING:
    from daemon.engine.models import Models
    from daemon.settings.schema import Settings
    from stages.types import Image, Result


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of ``maskcast image``."""
    parser.add_argument("pictures", nargs="*", metavar="PATH", help="JPEG, PNG or what else Pillow reads")
    add_prompt_flag(parser, required=True)
    parser.add_argument("--out", type=Path, default=Path("masks"), metavar="DIR", help="folder to write to (masks)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    add_settings_flags(parser)


def run(arguments: Namespace) -> int:
    """Process the pictures; return 1 if one cannot be read. Raises ConfigError, ModelError, OutputError."""
    log.set_up(arguments.debug)
    settings = load_settings(arguments)
    after, texts = split_prompts(arguments.prompts)
    named = [Path(word) for word in (*arguments.pictures, *after)]
    if not named:
        raise ConfigError("nothing to do: name a PATH of a picture, with its ending, such as street.jpg")
    if not texts:
        raise ConfigError("say what to look for: --prompt person")
    prompts = parse_prompts(texts)
    _create_folder(arguments.out)
    pictures = [path for path in named if _check_exists(path)]
    found: list[dict[str, Any]] = []
    if pictures:
        from daemon.service.build_models import build_models
        from stages.pictures import read_picture

        models = build_models(settings)
        for doubt in models.detector.doubts(prompts):
            print(f"maskcast: warning: {doubt}", file=sys.stderr, flush=True)
        stems = unique([path.stem for path in pictures])
        for path, stem in zip(pictures, stems, strict=True):
            try:
                picture = read_picture(path)
            except SourceError as error:
                _print_error(error)
                continue
            result = segment(models, settings, prompts, picture)
            found.append({"picture": str(path), **_write(arguments.out, stem, result, prompts, settings)})
            if not arguments.json:
                print(_summary_line(found[-1]), flush=True)
    if arguments.json:
        print(json.dumps({"pictures": found}, ensure_ascii=False))
    return 0 if len(found) == len(named) else 1


def segment(models: "Models", settings: "Settings", prompts: Sequence[Prompt], picture: "Image") -> "Result":
    """Detect ``prompts`` on one picture, segment each detection, and classify if a classifier is loaded."""
    from daemon.engine.classify import classify
    from stages.detection.tiles import detect_in_tiles
    from stages.types import Clock, Frame, Window

    frame = Frame(0, 0, Fraction(1), 0.0, Clock.FILE, picture)
    detector, chosen = models.detector, settings.detection
    thresholds = chosen.box_threshold, chosen.text_threshold
    [detections] = detect_in_tiles(detector, [picture], prompts, thresholds, chosen.tiles, detector.together)
    tracking = settings.tracking.model_copy(update={"max_objects": max(1, len(detections))})
    [result] = models.new_tracker(tracking, 1.0).step(Window(0, (frame,), keyframe=True), detections)
    if models.classifier is not None:
        [result] = classify(models.classifier, settings.classification.target, [result])
    return result


def _write(
    folder: Path, stem: str, result: "Result", prompts: Sequence[Prompt], settings: "Settings"
) -> dict[str, Any]:
    """Write the annotated picture and the header; return the entry of the summary."""
    from stages.output import annotate, wire
    from stages.output.masks import full_masks

    texts = [prompt.written for prompt in prompts]
    masks = full_masks(result)
    header = wire.masks_header(
        result,
        masks,
        stream=stream_name(stem),
        session=str(uuid.uuid4()),
        seq=0,
        prompts=texts,
        published_at=time.time(),
        encoding=settings.publish.mask_encoding,
    )
    drawn = annotate.annotate(result.frame.image, masks, result.tracks, texts, result.classes)
    annotated, description = folder / f"{stem}.masks.jpg", folder / f"{stem}.json"
    try:
        annotated.write_bytes(annotate.encode_jpeg(drawn, settings.publish.jpeg_quality))
        description.write_bytes(wire.to_json(header) + b"\n")
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}; choose another folder with --out") from None
    objects = [{key: item[key] for key in ("id", "prompt", "score", "box", "area")} for item in header["objects"]]
    return {"objects": objects, "classes": header["classes"], "annotated": str(annotated), "masks": str(description)}


def _summary_line(entry: dict[str, Any]) -> str:
    objects = ", ".join(f"{item['prompt']} {item['score']:.2f}" for item in entry["objects"]) or "nothing found"
    classes = ", ".join(f"{item['label']} {item['score']:.2f}" for item in entry["classes"])
    return f"{entry['picture']}: {objects}{f' | {classes}' if classes else ''} -> {entry['annotated']}"


def _create_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create {folder}: {error.strerror}; choose another folder with --out") from None


def _check_exists(path: Path) -> bool:
    if not path.is_file():
        _print_error(SourceError(f"cannot read {path}: {'it is a directory' if path.is_dir() else 'no such file'}"))
    return path.is_file()


def _print_error(error: SourceError) -> None:
    print(f"maskcast: error: {error}", file=sys.stderr, flush=True)
