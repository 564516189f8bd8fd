"""Acting in environments: action chunks, callbacks, evaluation."""
