"""Eager optimizers (design §8): a loop over tensors that the host pays for."""

import pytest

from ridgepoint.evidence.optimizers import KERNELS, of_model, of_network
from ridgepoint.models.catalog import find_model
from ridgepoint.ops import Gemm, Stream


def test_adam_does_more_with_a_tensor_than_sgd():
    assert KERNELS["sgd"] < KERNELS["adam"] < KERNELS["adamw"] < KERNELS["adadelta"]


def test_bert_has_its_two_hundred_tensors():
    # 199 in transformers' BertModel: 16 a layer, five of the embedding, two of the pooler.
    assert of_model(find_model("bert-base")) == pytest.approx(199, abs=5)


def test_a_network_has_a_gradient_for_each_matrix_and_two_for_each_norm():
    matrix = Gemm(m=8.0, n=8.0, k=8.0, label="fc.grad_weight")
    other = Gemm(m=8.0, n=8.0, k=8.0, label="fc.grad_input")
    norm = Stream(read_bytes=8.0, write_bytes=8.0, pattern="batch_norm", label="bn.grad")
    assert of_network([(matrix, 3.0), (other, 3.0), (norm, 2.0)]) == 3.0 + 2 * 2.0
