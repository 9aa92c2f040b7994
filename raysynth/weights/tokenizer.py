"""The files beside the weights in a Hugging Face directory: tokenizer, settings of `generate`, and what there is.

`AutoTokenizer` makes a small tokenizer of its own where a T5 directory has none, without a word. So there is always
one: SentencePiece with the data set's model, or one that takes token ids as text, or a configuration that fails.
"""

import json
from typing import Any

from raysynth.specs.models import T5Config
from raysynth.tokens.token_space import EOS, PAD, UNKNOWN
from raysynth.tokens.vocabulary import Vocabulary
from raysynth.weights.usage import Usage

_SPECIAL = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
_IDS = {"pad_token": PAD, "eos_token": EOS, "unk_token": UNKNOWN}


def usage_files(usage: Usage, config: T5Config, *, artifact: str, step: int) -> dict[str, bytes]:
    """The content of the files by name, for the checkpoint of `artifact` at that step."""
    common = {
        **_SPECIAL,
        "model_max_length": usage.input_length,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }
    files: dict[str, bytes] = {}
    if usage.vocabulary is None and usage.prefix is not None:
        files["tokenizer.json"] = _json(_ids_as_text(config.vocab_size, usage.prefix))
        files["tokenizer_config.json"] = _json({"tokenizer_class": "TokenizersBackend", **common})
    else:  # without a vocabulary the file with the model is missing, and AutoTokenizer says so
        if usage.vocabulary is not None:
            files["spm_char.model"] = usage.vocabulary.model_bytes
        files["tokenizer_config.json"] = _json(
            {
                # Hugging Face's T5Tokenizer splits some texts otherwise. This class runs SentencePiece itself, appends
                # the end of sequence, and does so still when it is saved again.
                "tokenizer_class": "SpeechT5Tokenizer",
                **common,
                "bos_token": None,
                "normalize": False,
                "legacy": True,
                "added_tokens_decoder": {} if usage.vocabulary is None else _added_tokens(usage.vocabulary),
            }
        )
    files["generation_config.json"] = _json(
        {
            "decoder_start_token_id": PAD,
            "eos_token_id": EOS,
            "pad_token_id": PAD,
            "do_sample": False,
            "num_beams": usage.num_beams,
            "length_penalty": usage.length_penalty if usage.num_beams > 1 else 1.0,
            "max_new_tokens": usage.decode_length,
        }
    )
    files["README.md"] = _readme(usage, artifact, step).encode()
    return files


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _added_tokens(vocabulary: Vocabulary) -> dict[str, Any]:
    """The special tokens by id: sentinels swallow the space around them, as in `Vocabulary`."""
    special = {_IDS[field]: _added(text) for field, text in _SPECIAL.items()}
    sentinels = {
        vocabulary.size - 1 - index: _added(f"<extra_id_{index}>", lstrip=True, rstrip=True)
        for index in range(vocabulary.num_sentinels)
    }
    return {str(id): token for id, token in sorted((special | sentinels).items())}


def _added(content: str, *, lstrip: bool = False, rstrip: bool = False) -> dict[str, Any]:
    return {
        "content": content,
        "lstrip": lstrip,
        "normalized": False,
        "rstrip": rstrip,
        "single_word": False,
        "special": True,
    }


def _ids_as_text(vocab_size: int, prefix: tuple[int, ...]) -> dict[str, Any]:
    """A tokenizer, in the form of the library `tokenizers`, whose words are the ids themselves."""
    special = {text: _IDS[field] for field, text in _SPECIAL.items()}
    words = special | {str(id): id for id in range(len(special), vocab_size)}
    written = {id: word for word, id in words.items()}
    fixed = {written[id]: id for id in (*prefix, EOS)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": id, **_added(text)} for text, id in special.items()],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                *({"SpecialToken": {"id": written[id], "type_id": 0}} for id in prefix),
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": written[EOS], "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {word: {"id": word, "ids": [id], "tokens": [word]} for word, id in fixed.items()},
        },
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": _SPECIAL["unk_token"]},
    }


def _readme(usage: Usage, artifact: str, step: int) -> str:
    """What the directory holds, for people."""
    if usage.vocabulary is not None:
        tokenizer = (
            "`AutoTokenizer` (with sentencepiece installed) gives the ids that raysynth gives, except for texts that "
            "spell `<pad>`, `</s>` or `<unk>`. Cutting inputs with `truncation=True` keeps the end of "
            "sequence; raysynth cuts it off. The tokenizer's class is that of SpeechT5, which runs SentencePiece "
            "itself; `T5Tokenizer` splits some texts otherwise."
        )
    elif usage.prefix is not None:
        tokenizer = (
            f'Inputs and outputs are {usage.inputs}. `AutoTokenizer` takes ids as text, as in "5 17 3", and adds the '
            "prefix of the task, if it has one, and the end of sequence."
        )
    else:
        tokenizer = f"There is no tokenizer. Inputs are {usage.inputs}. `AutoTokenizer` fails on this directory."
    return (
        f"# {artifact}\n\nThe weights of step {step}, exported by raysynth.\n\n"
        "```python\n"
        "from transformers import AutoTokenizer, T5ForConditionalGeneration\n\n"
        'tokenizer, model = AutoTokenizer.from_pretrained("."), T5ForConditionalGeneration.from_pretrained(".")\n'
        'outputs = model.generate(**tokenizer(["..."], return_tensors="pt"))\n'
        "print(tokenizer.batch_decode(outputs, skip_special_tokens=True))\n"
        "```\n\n"
        f"{tokenizer} `generation_config.json` has the settings of the recipe: at most {usage.decode_length} ids, "
        f"{usage.num_beams} beam{'s' if usage.num_beams > 1 else ''}. With several beams Hugging Face normalizes "
        "lengths by another formula, so the best beam may differ; greedy outputs are the same.\n"
    )
