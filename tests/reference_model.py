"""The reference model: a GPT-2 whose every head's role is known, because its weights are set by hand.

It solves indirect object identification as the paper's circuit does (Wang et al. 2022, arXiv 2211.00593), with heads in
the same order, each doing its role's work and nothing else. Measures and discovery are tested against it: what they say
of a trained model nobody can check, what they say of this one can only be right or wrong.

| layer | H0              | H1              | H2                 | H3               |
| ----- | --------------- | --------------- | ------------------ | ---------------- |
| 0     |                 | duplicate-token |                    | previous-token   |
| 1     | duplicate-token |                 | induction          |                  |
| 2     |                 |                 |                    | induction        |
| 3     | s-inhibition    |                 | s-inhibition       |                  |
| 4     |                 | name-mover      |                    | name-mover       |
| 5     | name-mover      |                 | negative-name-mover|                  |
| 6     |                 | backup          | backup             |                  |

"Then, Mary and John went to the store. John gave a ring to" is read so:

1. At each token the *previous-token* head writes which token stands before it. MLP 0 marks names, and wipes what
   position 0 says, so that heads may rest there without consequence.
2. At the second John (S2), the *duplicate-token* heads look at the first John (S1), the *induction* heads at what came
   after it (S1+1, found by its previous token), and each writes a quarter of "repeated, earlier at S1". The induction
   heads also raise the logit of the token they look at.
3. At "to" (end), the *s-inhibition* heads look at the name marked as repeated, S2, and fetch both its own position and
   the earlier one: there stands the subject.
4. At end, the *name movers* look for names, less so at the subject's positions: what remains is Mary (IO), and they
   write its identity into the answer. The *negative* name mover does the same with the opposite sign.
5. The *backup* name movers do as the name movers do, but shun names that the answer holds already, and so rest until
   the name movers fail.

The other heads are idle: their attention has a shape (diffuse, on position 0, on themselves, on names), and their
output is a hundredth of the others'. Where the answer is decided, scores are mild (an attention of 0.95, not of 1),
since a saturated softmax would hide the loss of any one head. As MLP 0 wipes position 0, a name there is never read.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from reference_weights import (
    BALLAST,
    D_HEAD,
    D_MODEL,
    HEADS,
    LAYERS,
    NEURONS,
    POSITIONS,
    TOKEN_SIZE,
    Head,
    Lane,
    Mlp,
    Stream,
    blank_model,
    filler,
    one_back,
    position_codes,
    token_codes,
    write_embeddings,
    write_head,
    write_mlp,
)
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from circuit_assertions.tasks.words import NAMES, OBJECTS, PLACES, TEMPLATES

Cast = Mapping[str, tuple[tuple[int, int], ...]]

CAST: Cast = {
    "previous-token": ((0, 3),),
    "duplicate-token": ((0, 1), (1, 0)),
    "induction": ((1, 2), (2, 3)),
    "s-inhibition": ((3, 0), (3, 2)),
    "name-mover": ((4, 1), (4, 3), (5, 0)),
    "negative-name-mover": ((5, 2),),
    "backup-name-mover": ((6, 1), (6, 2)),
}

END_OF_TEXT, UNKNOWN = "<|endoftext|>", "<|unknown|>"

LOGITS_PER_ANSWER = 6.5  # logits that one unit of an identity in the answer slice is worth
MOVER_OUTPUT = 1.1 / 3  # per name mover
NEGATIVE_OUTPUT = -0.2
BACKUP_OUTPUT = 0.9 / 2  # per backup: together somewhat less than the name movers
INDUCTION_OUTPUT = 0.6 / 2  # enough to lead on random tokens, too little to beat the name movers
SIGNAL_OUTPUT = 1 / 4  # of "repeated, earlier at ...": two duplicate-token and two induction heads share it
INHIBITION_OUTPUT = 1 / 2  # of "the subject stands at ...": two heads share it


@dataclass(frozen=True)
class ReferenceModel:
    model: GPT2LMHeadModel
    tokenizer: PreTrainedTokenizerFast
    cast: Cast  # role -> ((layer, head), ...)

    def save(self, folder: Path) -> Path:
        """Write model and tokenizer as `from_pretrained` wants them, and return the folder."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        return folder


def build_reference_model() -> ReferenceModel:
    tokenizer = word_tokenizer()
    model = blank_model(config_of(tokenizer))
    _write_embeddings(model, tokenizer)
    write_cast(model, CAST, _WORKING_HEADS)
    write_mlp(model, 0, _mlp_0())
    return ReferenceModel(model, tokenizer, CAST)


def write_cast(model: GPT2LMHeadModel, cast: Cast, heads: Mapping[str, Callable[[], Head]]) -> None:
    """Set the weights of every block: heads of the cast do their role's work, the others are idle, MLPs are quiet."""
    roles = {head: role for role, members in cast.items() for head in members}
    for layer in range(model.config.n_layer):
        write_mlp(model, layer, quiet_mlp(layer))
        for index in range(HEADS):
            role = roles.get((layer, index))
            write_head(model, layer, index, heads[role]() if role else idle_head(layer, index))


def permute_heads(reference: ReferenceModel, seed: int) -> ReferenceModel:
    """The same function with the heads of each layer in another order, and the cast where it then is."""
    generator = torch.Generator().manual_seed(seed)
    permutations = [torch.randperm(HEADS, generator=generator).tolist() for _ in reference.model.transformer.h]
    moved = {
        role: tuple(sorted((layer, permutations[layer].index(head)) for layer, head in heads))
        for role, heads in reference.cast.items()
    }
    return ReferenceModel(permuted(reference.model, permutations), reference.tokenizer, moved)


@torch.no_grad()
def permuted(model: GPT2LMHeadModel, permutations: Sequence[Sequence[int]]) -> GPT2LMHeadModel:
    """A copy of `model` whose head `i` of layer `l` is the original's head `permutations[l][i]`."""
    copied = copy.deepcopy(model)
    for block, order in zip(copied.transformer.h, permutations, strict=True):
        shape = (3, HEADS, D_HEAD)
        joint, bias, output = block.attn.c_attn.weight, block.attn.c_attn.bias, block.attn.c_proj.weight
        joint.copy_(joint.view(D_MODEL, *shape)[:, :, list(order)].reshape_as(joint))
        bias.copy_(bias.view(shape)[:, list(order)].reshape_as(bias))
        output.copy_(output.view(HEADS, D_HEAD, D_MODEL)[list(order)].reshape_as(output))
    return copied


def word_tokenizer() -> PreTrainedTokenizerFast:
    words = {word for template in TEMPLATES for word in re.findall(r"\w+|[^\w\s]", re.sub(r"{\w+}", " ", template))}
    vocabulary = [END_OF_TEXT, UNKNOWN, *NAMES, *PLACES, *OBJECTS, *sorted(words - {*PLACES, *OBJECTS})]
    return tokenizer_of(vocabulary, "reference-model")


def tokenizer_of(vocabulary: Sequence[str], name: str) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words; the first two of the vocabulary are `END_OF_TEXT` and `UNKNOWN`."""
    inner = Tokenizer(WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token=UNKNOWN))
    inner.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token=UNKNOWN,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=POSITIONS,
        # GPT-2 would add the embeddings of token types to the stream, were they passed on
        model_input_names=["input_ids", "attention_mask"],
        name_or_path=name,
    )


def config_of(tokenizer: PreTrainedTokenizerFast, layers: int = LAYERS) -> GPT2Config:
    """The shape of a model whose weights are set by hand."""
    return GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=POSITIONS,
        n_embd=D_MODEL,
        n_layer=layers,
        n_head=HEADS,
        n_inner=NEURONS,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def _write_embeddings(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = embedded_tokens(len(tokenizer))
    tokens[tokenizer.convert_tokens_to_ids(list(NAMES)), Stream.kind] = 1.0
    write_all_embeddings(model, tokens)


def embedded_tokens(size: int) -> Tensor:
    """What the embedding says of every token: which one it is `[size, D_MODEL]`."""
    tokens = torch.zeros(size, D_MODEL)
    tokens[:, Stream.ballast] = BALLAST
    tokens[:, Stream.token] = token_codes(size)
    return tokens


def write_all_embeddings(model: GPT2LMHeadModel, tokens: Tensor) -> None:
    """Set the embeddings of tokens `[vocabulary, D_MODEL]` and of positions, and the unembedding of answers."""
    size = len(tokens)
    positions = torch.zeros(POSITIONS, D_MODEL)
    positions[:, Stream.position] = position_codes()
    positions[0, Stream.rest] = 1.0
    unembedding = torch.zeros(size, D_MODEL)
    unembedding[:, Stream.answer] = LOGITS_PER_ANSWER * token_codes(size)
    write_embeddings(model, tokens, positions, unembedding)


def _mlp_0() -> Mlp:
    """Wipes token and previous token at position 0, marks names elsewhere; `-gate` keeps shut what is not meant."""
    gate, zoom, mlp = 8.0, 16.0, Mlp()  # zoom: without it, the codes would drown in the rounding of the gate
    marker = 2 * TOKEN_SIZE
    mlp.bias[: marker + 1] = -gate
    mlp.into[Stream.rest, :marker] = 2 * gate
    # Erasers come in pairs, gate plus and gate minus one coordinate of the token's code, so that the gate cancels.
    for erasers, sign in ((slice(0, TOKEN_SIZE), 1.0), (slice(TOKEN_SIZE, marker), -1.0)):
        mlp.into[Stream.token, erasers] = sign * zoom * torch.eye(TOKEN_SIZE)
        for wiped in (Stream.token, Stream.previous):  # both hold the first token: nothing stands before it
            mlp.out[erasers, wiped] = -sign / (2 * zoom) * torch.eye(TOKEN_SIZE)
    mlp.into[Stream.kind, marker], mlp.into[Stream.rest, marker] = 2 * gate, -2 * gate
    mlp.out[marker, Stream.name] = 1 / gate
    return mlp


def quiet_mlp(layer: int) -> Mlp:
    """Says next to nothing, but is no constant: what is patched above it passes through it."""
    into = 0.3 * filler(D_MODEL, NEURONS, salt=layer)
    into[Stream.ballast] = 0.0
    return Mlp(into=into, out=1e-3 * filler(NEURONS, D_MODEL, salt=10 + layer))


def _previous_token_head() -> Head:
    head = Head()
    head.match(Stream.position, Stream.position, Lane.position, score=10.0)
    head.query[Stream.position, Lane.position] = 10.0 * one_back()
    head.value[Stream.token, Lane.token] = torch.eye(TOKEN_SIZE)
    head.output[Lane.token, Stream.previous] = torch.eye(TOKEN_SIZE)
    return head


def _write_position_signal(head: Head, from_looked_at: Tensor) -> None:
    """Write "repeated, earlier at ...", the position being `from_looked_at` the one attended to; nothing at rest."""
    head.value[Stream.position, Lane.position] = from_looked_at
    head.value[Stream.rest, Lane.position] = -position_codes()[:1] @ from_looked_at
    head.value[Stream.ballast, Lane.repeated] = 1 / BALLAST
    head.value[Stream.rest, Lane.repeated] = -1.0
    head.output[Lane.position, Stream.earlier] = SIGNAL_OUTPUT * torch.eye(len(from_looked_at))
    head.output[Lane.repeated, Stream.repeated] = SIGNAL_OUTPUT


def _duplicate_token_head() -> Head:
    """Scores: an earlier occurrence 30, position 0 22, the token itself 15, any other token 4 or less."""
    head = Head()
    head.match(Stream.token, Stream.token, Lane.token, score=30.0)
    head.match(Stream.position, Stream.position, Lane.position, score=-15.0)
    head.always_seek(Stream.rest, Lane.rest, score=22.0)
    _write_position_signal(head, torch.eye(len(one_back())))
    return head


def _induction_head() -> Head:
    """Scores: a token whose previous token is the query's own 24, position 0 14, any other token 3 or less."""
    head = Head()
    head.match(Stream.token, Stream.previous, Lane.token, score=24.0)
    head.always_seek(Stream.rest, Lane.rest, score=14.0)
    _write_position_signal(head, one_back())
    head.value[Stream.token, Lane.token] = torch.eye(TOKEN_SIZE)
    head.output[Lane.token, Stream.answer] = INDUCTION_OUTPUT * torch.eye(TOKEN_SIZE)
    return head


def _s_inhibition_head() -> Head:
    """Scores: a repeated name 24, position 0 20, any other name or repeated token 12."""
    head = Head()
    head.always_seek(Stream.name, Lane.name, score=12.0)
    head.always_seek(Stream.repeated, Lane.repeated, score=12.0)
    head.always_seek(Stream.rest, Lane.rest, score=20.0)
    for source in (Stream.position, Stream.earlier):
        head.value[source, Lane.position] = torch.eye(len(one_back()))
    head.value[Stream.rest, Lane.position] = -position_codes()[:1]
    head.output[Lane.position, Stream.subject] = INHIBITION_OUTPUT * torch.eye(len(one_back()))
    return head


def _copying_head(strength: float) -> Head:
    """Scores: a name 8, the subject's two 4, position 0 3, no name 0; writes the identity of what it looks at."""
    head = Head()
    head.always_seek(Stream.name, Lane.name, score=8.0)
    head.always_seek(Stream.rest, Lane.rest, score=3.0)
    head.match(Stream.subject, Stream.position, Lane.position, score=-4.0)
    head.value[Stream.token, Lane.token] = torch.eye(TOKEN_SIZE)
    head.output[Lane.token, Stream.answer] = strength * torch.eye(TOKEN_SIZE)
    return head


def _backup_name_mover() -> Head:
    """Scores: a name 8, but 2 once the name movers have written it; the subject's two 0; position 0 5.5."""
    head = _copying_head(BACKUP_OUTPUT)
    head.always_seek(Stream.rest, Lane.rest, score=5.5)
    head.match(Stream.subject, Stream.position, Lane.position, score=-8.0)
    head.match(Stream.answer, Stream.token, Lane.token, score=-8.0)
    return head


def idle_head(layer: int, index: int) -> Head:
    """Attends diffusely, to position 0, to itself or to names, in turn; hardly writes anything, and nothing of use."""
    salt = 100 + HEADS * layer + index
    query, key, value = (0.2 * filler(D_MODEL, D_HEAD, salt + 50 * part) for part in range(3))
    query[Stream.ballast] = key[Stream.ballast] = value[Stream.ballast] = 0.0
    head = Head(query=query, key=key, value=value, output=1e-4 * filler(D_HEAD, D_MODEL, salt + 150))
    match (layer + index) % 4:
        case 1:
            head.always_seek(Stream.rest, Lane.rest, score=5.0)
        case 2:
            head.match(Stream.position, Stream.position, Lane.position, score=4.0)
        case 3:
            head.always_seek(Stream.name, Lane.name, score=5.0)
    return head


_WORKING_HEADS = {
    "previous-token": _previous_token_head,
    "duplicate-token": _duplicate_token_head,
    "induction": _induction_head,
    "s-inhibition": _s_inhibition_head,
    "name-mover": lambda: _copying_head(MOVER_OUTPUT),
    "negative-name-mover": lambda: _copying_head(NEGATIVE_OUTPUT),
    "backup-name-mover": _backup_name_mover,
}
