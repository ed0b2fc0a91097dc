"""The mathematics of diffusion language models, given any denoiser. No files, no networks.

draws         random numbers keyed by what they are for
sequence      the tokens to score, and which of them take part
queries       batched calls of a denoiser; what is read of it: readouts
plans         linear estimators as data: queries and weights
masked        NELBO, pseudo-log-likelihood and exact chains of masked diffusion
uniform       NELBO and one-pass pseudo-log-likelihood of uniform-state diffusion
hidden_sets   which tokens a draw of the masked NELBO hides
published     variants that only comparisons need
schedule      the noise schedule alpha(t)
forward       corruption: clean tokens to noisy ones
reverse       one ancestral step back
"""
