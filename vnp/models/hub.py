"""Any encoder of the Hugging Face hub that transformers itself contains: never with remote code.

What a model is follows from its ``config.json`` and tokenizer alone, so a store can be made for it
where the weights are not.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from store.errors import UsageError
from vnp.models.errors import WeightsError, WeightsNotFoundError
from vnp.models.spec import HUB, ModelSpec, store_name
from vnp.models.text_forms import text_form

log = logging.getLogger(__name__)

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*\Z")
_REVISION = re.compile(r"[\w./-]{0,100}\Z")
_LONGEST = 200  # characters of another library's error that are repeated
_PROTEIN = set("ACDEFGHIKLMNPQRSTVWY")
_BASES = set("ACGTN")
HEADS = re.compile(r"(pooler|contact_head|lm_head|cls|classifier)\.")  # nothing here reads them
_PATIENCE = 5.0  # seconds that the hub has to answer
_REMEMBERED = 60.0  # seconds for which the answer, or none, is remembered
# Of these, transformers' own class is only the decoder half of what embeds sequences.
_T5 = ("t5", "mt5", "umt5")


def name_of(repo: str, revision: str = "") -> str:
    """Name of a model of the hub in a store; UsageError if ``repo`` or ``revision`` is not one."""
    if repo.startswith(("/", ".", "~")) or repo.count("/") > 1:
        folder = repo.rstrip("/").rpartition("/")[2]
        raise UsageError(
            f"hf:{repo} is not the name of a model of the hub, but a path: call the model "
            f"hf:ORG/NAME, as hf:local/{folder}, and give the folder, or the one that it is in, "
            "as weights (--weights DIR)"
        )
    name, comma, options = repo.partition(",")
    if comma:
        raise UsageError(f"hf:{repo}: options go behind an @: hf:{name}@{options}")
    if not _REPO.match(repo) or not _REVISION.match(revision):
        raise UsageError(f"hf:{repo} is not the name of a model of the hub, hf:ORG/NAME[@REVISION]")
    return store_name(f"hf_{repo}" + (f"_{revision}" if revision else ""))


def folder_of(repo: str, weights_dir: Path | None, *names: str) -> Path | None:
    """Folder of a model's files: called as the model or its repository, and below the one given.

    The one given may be that folder itself. UsageError if it is not a folder.
    """
    if weights_dir is None:
        return None
    if not weights_dir.is_dir():
        raise UsageError(f"the weights folder {weights_dir} does not exist or is not a folder")
    names = (*names, name_of(repo), repo.rpartition("/")[2])
    below = (weights_dir / name for name in names)
    itself = weights_dir if weights_dir.resolve().name in names else None
    return next((folder for folder in below if folder.is_dir()), itself)


def here(repo: str, weights_dir: Path | None, *names: str, revision: str = "main") -> Path:
    """Folder of a model that is on this machine; `WeightsNotFoundError` if it is not."""
    from huggingface_hub import try_to_load_from_cache

    folder = folder_of(repo, weights_dir, *names)
    if folder is None:
        config = try_to_load_from_cache(repo, "config.json", revision=revision)
        folder = Path(config).parent if isinstance(config, str) else None
    if folder is None or not (folder / "config.json").is_file():
        raise missing(repo, FileNotFoundError("they are not on this machine"))
    if not any(next(folder.glob(f"*.{kind}"), None) for kind in ("safetensors", "bin")):
        raise missing(folder, FileNotFoundError("it holds no weights"))
    return folder


def spec_of(
    repo: str,
    *,
    revision: str = "",
    input: str | None = None,  # noqa: A002
    weights_dir: Path | None = None,
) -> ModelSpec:
    """Describe a model of the hub from its configuration.

    Parameters
    ----------
    repo
        ``ORG/NAME``.
    revision
        Branch, tag or commit; empty: main.
    input
        ``nucleotide`` or ``protein``; None: as the tokenizer's vocabulary says.
    weights_dir
        Where its folder is looked for, before the cache and the hub.

    Raises
    ------
    UsageError
        If the name is not one, or the input cannot be told.
    WeightsNotFoundError
        If the files are neither in the cache nor to be had.
    WeightsError
        If transformers has no encoder of this kind, or its tokenizer does not know such sequences.
    """
    name = name_of(repo, revision)
    place = folder_of(repo, weights_dir, name)
    if weights_dir is not None and place is None:
        log.warning(f"hf:{repo} is not in {weights_dir}; looking in the Hugging Face cache and hub")
    config = configuration(place or repo, revision=revision or "main")
    found = tokenizer(place or repo, revision=revision or "main")
    if input is None:
        input = _input_of(found, name=repo)  # noqa: A001
    text_form(found, input, name=f"{HUB}{repo}")  # refuses what no worker could embed by
    options = ",".join(filter(None, [revision, f"input={input}"]))
    return ModelSpec(
        name=name,
        architecture="transformers",
        input=input,
        dim=config.hidden_size,
        layers=config.num_hidden_layers,
        pooling="mean",
        repo=repo,
        revision=revision or "main",
        about=f"{config.model_type} of the Hugging Face hub, mean over tokens",
        source=f"{HUB}{repo}@{options}",
    )


def configuration(place: str | Path, *, revision: str) -> Any:
    """Read a model's configuration; a `WeightsError` if transformers has no such encoder."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    try:
        config: Any = AutoConfig.from_pretrained(
            place, revision=revision, trust_remote_code=False, local_files_only=not asks_hub(place)
        )
    except Exception as error:  # noqa: BLE001 - the file may hold anything
        if "trust_remote_code" in str(error) or "does not recognize this architecture" in str(
            error
        ):
            raise WeightsError(
                f"{place} needs code of its own, which vnp never runs: transformers has no such "
                "architecture. A plug-in can (vnp embed --plugin)"
            ) from None
        raise missing(place, error) from None
    kind = config.model_type
    if kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES and kind not in _T5:
        raise WeightsError(f"{place} is of the kind {kind}, which is not an encoder")
    for name in ("hidden_size", "num_hidden_layers"):
        value = getattr(config, name, None)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise WeightsError(
                f"{place}, of the kind {kind}, gives {value!r} as its {name}, where a positive "
                "whole number belongs: it is not an encoder that vnp can run, or its config.json "
                "is damaged"
            )
    return config


def check_shape(spec: ModelSpec, config: Any) -> None:
    """Compare a configuration with what the registry knows; a `WeightsError` names differences."""
    wanted = {"hidden_size": spec.dim, "num_hidden_layers": spec.layers}
    wrong = [
        f"{key} is {getattr(config, key, None)!r}, not {value}"
        for key, value in wanted.items()
        if getattr(config, key, None) != value
    ]
    if wrong:
        raise WeightsError(f"these are not the files of {spec.name}: {'; '.join(wrong)}")


def model_of(place: str | Path, config: Any, *, revision: str, dtype: Any) -> Any:
    """Load the encoder half of a model, in evaluation mode, with SDPA where it has that."""
    import transformers

    kind = config.model_type
    # Of T5-like models only the encoder's half embeds; poolers are heads that nothing here reads.
    if kind in _T5:
        cls: Any = {
            "t5": transformers.T5EncoderModel,
            "mt5": transformers.MT5EncoderModel,
            "umt5": transformers.UMT5EncoderModel,
        }[kind]
    else:
        cls = transformers.AutoModel
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": False, "dtype": dtype}
    options["local_files_only"] = not asks_hub(place)
    messages: Any = transformers.utils.logging
    verbosity = messages.get_verbosity()
    messages.set_verbosity_error()  # what is missing is said below
    messages.disable_progress_bar()
    try:
        model, info = cls.from_pretrained(place, config=config, output_loading_info=True, **options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise missing(place, error) from None
    finally:
        messages.set_verbosity(verbosity)
    absent = sorted(name for name in info["missing_keys"] if not HEADS.match(name))
    if absent or info.get("mismatched_keys"):
        raise WeightsError(
            f"{place} lacks weights of its own architecture: "
            f"{', '.join(absent[:4]) or 'shapes differ'}"
        )
    return model.eval()


def asks_hub(place: str | Path) -> bool:
    """Whether the hub is asked for a model: it is not for a folder, nor where it cannot be reached.

    Its client tries each file five times, with a line of warning for each, before it gives up.
    """
    return not isinstance(place, Path) and _reachable(int(time.monotonic() / _REMEMBERED))


def client_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises without a connection, with a full disk, or refused.

    It is built on httpx, from its version 2 on httpx2; one that is not imported raises nothing.
    """
    used = [sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules]
    return (OSError, RuntimeError, ValueError, *(library.HTTPError for library in used))


@lru_cache(maxsize=1)
def _reachable(_period: int) -> bool:
    """Whether the hub answers at all, tried once in a period."""
    from huggingface_hub import constants, get_session

    if constants.is_offline_mode():
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=_PATIENCE, follow_redirects=False)
    except client_errors() as error:
        log.info(f"{constants.ENDPOINT} cannot be reached ({error}): looking on this machine only")
        return False
    return True


def tokenizer(place: str | Path, *, revision: str) -> Any:
    """Load a model's tokenizer, without remote code."""
    from transformers import AutoTokenizer

    load: Any = AutoTokenizer.from_pretrained
    try:
        return load(
            place, revision=revision, trust_remote_code=False, local_files_only=not asks_hub(place)
        )
    except Exception as error:  # noqa: BLE001 - tokenizers raises bare ones
        raise missing(place, error) from None


def missing(place: str | Path, error: BaseException) -> WeightsNotFoundError:
    """Say that a model's files cannot be had or read, and how to bring them."""
    line = " ".join(str(error).split())[:_LONGEST] or type(error).__name__
    if isinstance(place, Path):
        return WeightsNotFoundError(
            f"{place} does not hold all files of a model, or damaged ones ({line})"
        )
    name = place.rpartition("/")[2]
    return WeightsNotFoundError(
        f"the files of {place} cannot be had or read ({line}); on a machine with internet run "
        f"`hf download {place} --exclude '*.py' --local-dir DIR/{name}`, then pass `--weights DIR` "
        "here and to 'vnp embed', or share its cache (HF_HOME)"
    )


def _input_of(found: Any, *, name: str) -> str:
    """Tell from the vocabulary what a model reads."""
    words = {re.sub(r"[^A-Za-z]", "", word).upper() for word in found.get_vocab()}
    if words >= _PROTEIN:
        return "protein"
    pieces = {word for word in words if word and set(word) <= _BASES}
    if len(pieces) >= 4 and not words >= set("KMW"):
        return "nucleotide"
    raise UsageError(
        f"hf:{name}: its vocabulary does not tell what it reads; say hf:{name}@input=protein or "
        "input=nucleotide"
    )
