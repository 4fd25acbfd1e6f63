"""The training steps of the cases in plain PyTorch, from our weights. Only they import torch.

Each module of a system has make(ours, place, **form) → a step: called without arguments it trains
on the images of `ours`, and with a batch on what the batch brings, such as latents or noise. It
returns the losses by our names. `FORMS`, where a module has it, are further ways to write the step.
Ours also measures norms of gradients and accuracies, which the renditions leave out.
"""
