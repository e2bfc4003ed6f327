"""What a step costs, by formula."""

from pipeline.config.learning import Model


def matrix_parameters(shape: Model, vocab_size: int) -> int:
    """Parameters that a token is multiplied with: all matrices, the tied head once."""
    channels = shape.channels_per_head
    attention = shape.width * channels * (2 * shape.query_heads + 2 * shape.key_heads)
    return shape.depth * (attention + 3 * shape.width * shape.hidden_width) + vocab_size * shape.width


def token_flops(shape: Model, vocab_size: int) -> float:
    """FLOPs of one trained token, forward and backward: 6 N + 12 L H C T (Chowdhery et al., PaLM, appendix B)."""
    attention = 12 * shape.depth * shape.query_heads * shape.channels_per_head * shape.context
    return 6.0 * matrix_parameters(shape, vocab_size) + attention
