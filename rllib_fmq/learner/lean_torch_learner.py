"""RLlib's update without the work that a single module with one optimiser does not need."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from torch import Tensor


class LeanTorchLearner(TorchLearner):
    """``TorchLearner`` with the same hooks and results, and less time between them.

    Whoever overrides ``compute_loss_for_module``, ``postprocess_gradients_for_module``,
    ``apply_gradients`` or ``configure_optimizers_for_module``, or sets RLlib's keys for clipping
    gradients or mixed precision, gets what RLlib promises.
    """

    def compute_gradients(self, loss_per_module: dict[str, Tensor], **kwargs: Any) -> Any:
        """RLlib's, with gradients dropped directly: ``zero_grad`` looks for more to do.

        Args:
            loss_per_module: Module id -> scalar loss.
            **kwargs: Passed on.
        Returns:
            Parameter -> gradient.
        """
        losses = list(loss_per_module.values())
        if self._grad_scalers is not None or len(losses) != 1 or losses[0].grad_fn is None:
            return super().compute_gradients(loss_per_module, **kwargs)
        params = self._params.values()
        for param in params:
            param.grad = None
        torch.autograd.backward(losses[0])
        return {param: param.grad for param in params}

    def postprocess_gradients(self, gradients_dict: dict[Tensor, Tensor]) -> Any:
        """RLlib's, without sorting the gradients by module and optimiser where there is one each.

        Args:
            gradients_dict: Parameter -> gradient.
        Returns:
            What ``postprocess_gradients_for_module`` makes of them.
        """
        (module_id, *others) = self.module.keys()
        if others or len(self._named_optimizers) != 1:
            return super().postprocess_gradients(gradients_dict)
        return self.postprocess_gradients_for_module(
            module_id=module_id,
            config=self.config.get_config_for_module(module_id),
            module_gradients_dict={p: g for p, g in gradients_dict.items() if g is not None},
        )

    def _compute_off_policyness(self, batch: Any) -> None:
        """Nothing: windows from the replay do not say which weights collected them."""
