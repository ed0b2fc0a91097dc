"""The mathematics, given any denoiser: masked and uniform-state estimators of log-likelihoods. No files, no models."""
