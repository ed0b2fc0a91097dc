"""Hugging Face models, by id or path: any masked LM as a Denoiser, any causal LM for `ar`.

    loading      a name becomes a network, a tokenizer and a digest
    tokenizer    text to ids, words and pieces
    limits       the longest sequence of an architecture
    masked       masked LMs; masked_head: their output layers alone
    causal       causal LMs on prefix trees

transformers is imported where it is used.
"""

from rescore.models.hub.causal import HubCausalLM
from rescore.models.hub.loading import HubModel, load_causal, load_masked, load_tokenizer
from rescore.models.hub.masked import HubMaskedLM
from rescore.models.hub.tokenizer import HubTokenizer

__all__ = [
    "HubCausalLM",
    "HubMaskedLM",
    "HubModel",
    "HubTokenizer",
    "load_causal",
    "load_masked",
    "load_tokenizer",
]
