"""What a pre-training logs; apart, since the process that pretends to train shall start quickly."""


def make_lines(n_steps: int = 60, every: int = 10) -> list[dict]:
    """What a pre-training logs while it learns, K = 100."""
    lines = []
    for step in range(1, n_steps + 1):
        share = step / n_steps
        row = {
            "step": step, "split": "train", "loss": 4.7 - share, "contrastive_loss": 4.62 - 0.9 * share,
            "contrastive_accuracy": 0.01 + 0.2 * share, "chance": 1 / 101, "diversity_loss": 0.8,
            "perplexity": 30 + 200 * share, "least_perplexity": 50.0, "masked_fraction": 0.49, "grad_norm": 1.0,
            "learning_rate": 1e-3 * min(1, 5 * share) * (1 - share), "gumbel_temperature": 2.0,
            "windows_per_second": 20.0, "wall_seconds": 4.0 * step,
        }  # fmt: skip
        lines.append(row)
        if step % every == 0:
            lines.append({**row, "split": "eval", "contrastive_loss": 4.65 - 0.8 * share, "learning_rate": None})
    return lines
