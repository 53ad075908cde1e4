"""The materials of the reference model: codes for tokens and positions, a named residual stream, heads set by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

LAYERS, HEADS, D_HEAD = 7, 4, 128
D_MODEL = HEADS * D_HEAD
POSITIONS = 120
TOKEN_SIZE, POSITION_SIZE = 64, 60
NEURONS = 2 * TOKEN_SIZE + 4


class Stream:
    """What the residual stream says, and where: slices of its own basis, which `stream_basis` maps to the model's."""

    mean = slice(0, 1)  # LayerNorm takes the mean away, so nothing is ever written here
    ballast = slice(1, 2)  # the same large number everywhere: it makes the LayerNorms nearly constant
    kind = slice(2, 3)  # 1 at names, from the embedding
    name = slice(3, 4)  # 1 at names, from MLP 0
    rest = slice(4, 5)  # 1 at position 0, the place where a head looks that has nothing to look for
    repeated = slice(5, 6)  # 1 where the token has been seen before
    token = slice(6, 70)  # which token stands here
    previous = slice(70, 134)  # which token stands before
    answer = slice(134, 198)  # which token comes next: the only slice that the unembedding reads
    position = slice(198, 258)  # which position this is
    earlier = slice(258, 318)  # at which position this token has stood before
    subject = slice(318, 378)  # at which positions the subject stands


class Lane:
    """What the dimensions of a head carry: the same names inside queries, keys and values."""

    token = slice(0, 64)
    position = slice(64, 124)
    name = slice(124, 125)
    rest = slice(125, 126)
    repeated = slice(126, 127)


BALLAST = math.sqrt(D_MODEL)  # a vector of this norm leaves LayerNorm as it came


def zeros(rows: int, columns: int) -> Tensor:
    return torch.zeros(rows, columns)


@dataclass
class Head:
    """One attention head in the stream's own basis; scores are what the softmax sees, no factor is hidden."""

    query: Tensor = field(default_factory=lambda: zeros(D_MODEL, D_HEAD))
    query_bias: Tensor = field(default_factory=lambda: torch.zeros(D_HEAD))
    key: Tensor = field(default_factory=lambda: zeros(D_MODEL, D_HEAD))
    value: Tensor = field(default_factory=lambda: zeros(D_MODEL, D_HEAD))
    output: Tensor = field(default_factory=lambda: zeros(D_HEAD, D_MODEL))

    def always_seek(self, what: slice, lane: slice, score: float) -> None:
        """Every query likes keys that carry the flag `what`."""
        self.query_bias[lane] = score
        self.key[what, lane] = 1.0

    def match(self, query: slice, key: slice, lane: slice, score: float) -> None:
        """A query likes (or, below zero, shuns) keys whose code in `key` is its own in `query`."""
        size = lane.stop - lane.start
        self.query[query, lane] = score * torch.eye(size)
        self.key[key, lane] = torch.eye(size)


@dataclass
class Mlp:
    """One MLP in the stream's own basis."""

    into: Tensor = field(default_factory=lambda: zeros(D_MODEL, NEURONS))
    bias: Tensor = field(default_factory=lambda: torch.zeros(NEURONS))
    out: Tensor = field(default_factory=lambda: zeros(NEURONS, D_MODEL))


def _gf8_product(a: int, b: int) -> int:
    """The product in the field of eight elements, whose members are three bits: carry-less, modulo x^3 + x + 1."""
    product = 0
    for bit in range(3):
        if b >> bit & 1:
            product ^= a << bit
    for bit in (4, 3):
        if product >> bit & 1:
            product ^= 0b1011 << (bit - 3)
    return product


def token_codes(count: int) -> Tensor:
    """Unit vectors, one a token, any two orthogonal or with a cosine of 1/8: `[count, TOKEN_SIZE]`.

    They are the vectors of eight mutually unbiased bases (a Kerdock set): entry (x, y) of vector (a, u, v) is the sign
    (-1)^Tr(a x y + u x + v y). Random codes of this size would have cosines up to 0.5, which softmaxes would notice.
    """
    square = [_gf8_product(a, a) for a in range(8)]
    trace = [(a ^ square[a] ^ square[square[a]]) & 1 for a in range(8)]
    product = [[_gf8_product(a, b) for b in range(8)] for a in range(8)]
    signs = [
        [(-1.0) ** trace[product[a][product[x][y]] ^ product[u][x] ^ product[v][y]] for x in range(8) for y in range(8)]
        for a in range(8)
        for u in range(8)
        for v in range(8)
    ]
    return torch.tensor(signs[:count]) / math.sqrt(TOKEN_SIZE)


def _frequencies() -> Tensor:
    return torch.pi * (torch.arange(POSITION_SIZE // 2, dtype=torch.float64) + 0.5) / (POSITION_SIZE // 2)


def position_codes() -> Tensor:
    """Unit vectors, one a position, orthogonal unless 60 positions apart (then opposite): `[POSITIONS, POSITION_SIZE]`.

    They are cosines and sines, so that one rotation leads from any position to the one before it.
    """
    angles = torch.arange(POSITIONS, dtype=torch.float64)[:, None] * _frequencies()
    return (torch.cat((angles.cos(), angles.sin()), dim=1) / math.sqrt(POSITION_SIZE // 2)).float()


def one_back() -> Tensor:
    """The rotation that turns each position's code into that of the one before: `[POSITION_SIZE, POSITION_SIZE]`."""
    cosine, sine = _frequencies().cos().diag(), _frequencies().sin().diag()
    return torch.cat((torch.cat((cosine, -sine), dim=1), torch.cat((sine, cosine), dim=1))).float()


def stream_basis() -> Tensor:
    """The stream's basis in the model's coordinates (a discrete cosine transform), row 0 being the mean.

    No coordinate of the model means anything by itself, and what the rows below the first carry has mean zero, as
    LayerNorm wants it: `[D_MODEL of the stream, D_MODEL of the model]`.
    """
    index = torch.arange(D_MODEL, dtype=torch.float64)
    rows = torch.cos(torch.pi / D_MODEL * (index + 0.5) * index[:, None]) * math.sqrt(2.0 / D_MODEL)
    rows[0] /= math.sqrt(2.0)
    return rows.float()


def filler(rows: int, columns: int, salt: int) -> Tensor:
    """Numbers in [-1, 1] without a pattern, and without a random generator."""
    index = torch.arange(rows * columns, dtype=torch.float64) + 1e5 * salt
    return torch.sin(index * index * 0.6180339887).reshape(rows, columns).float()


def blank_model(config: GPT2Config) -> GPT2LMHeadModel:
    """A model of that shape that computes nothing: every weight 0, every norm's gain 1."""
    with torch.random.fork_rng(devices=[]):  # Hugging Face draws weights; whoever builds a model here shall not notice
        model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_gain = ".ln_" in name and name.endswith("weight")
            parameter.fill_(1.0 if is_gain else 0.0)
    return model.float().eval()


@torch.no_grad()
def write_embeddings(model: GPT2LMHeadModel, tokens: Tensor, positions: Tensor, unembedding: Tensor) -> None:
    """Set the embeddings `[.., D_MODEL]` and the unembedding `[vocabulary, D_MODEL]`, given in the stream's basis."""
    basis = stream_basis()
    model.transformer.wte.weight.copy_(tokens @ basis)
    model.transformer.wpe.weight.copy_(positions @ basis)
    model.lm_head.weight.copy_(unembedding @ basis)


@torch.no_grad()
def write_head(model: GPT2LMHeadModel, layer: int, index: int, head: Head) -> None:
    basis, attention = stream_basis(), model.transformer.h[layer].attn
    joint = attention.c_attn.weight.view(D_MODEL, 3, HEADS, D_HEAD)  # [d_model, q k v, head, d_head]
    undo_scaling = math.sqrt(D_HEAD)  # attention divides its scores by this
    joint[:, 0, index] = basis.T @ head.query * undo_scaling
    joint[:, 1, index] = basis.T @ head.key
    joint[:, 2, index] = basis.T @ head.value
    attention.c_attn.bias.view(3, HEADS, D_HEAD)[0, index] = head.query_bias * undo_scaling
    attention.c_proj.weight.view(HEADS, D_HEAD, D_MODEL)[index] = head.output @ basis


@torch.no_grad()
def write_mlp(model: GPT2LMHeadModel, layer: int, mlp: Mlp) -> None:
    basis, block = stream_basis(), model.transformer.h[layer].mlp
    block.c_fc.weight.copy_(basis.T @ mlp.into)
    block.c_fc.bias.copy_(mlp.bias)
    block.c_proj.weight.copy_(mlp.out @ basis)
