"""The same iteration by TRL's SDPO trainer; runs in the peers' environment.

`python -m benchmarks.peer_iteration.sdpo WORK.json MODE` prints its figures as one line of JSON.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import own_peak_mb
from benchmarks.peer_iteration.positions import Positions

STARTED = time.time()


def main() -> None:
    """Build the trainer, run it once, and count what it really did."""
    work = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl.experimental.sdpo import SDPOConfig, SDPOTrainer

    torch.set_num_threads(work["num_threads"])
    imported = time.time()
    counts = {"rollouts": 0, "response_tokens": 0, "expert_tokens": 0, "expert_rows": 0}
    counts["generations"] = 0

    class Count(TrainerCallback):
        """Of what the trainer has made when it goes on to train."""

        def on_teacher_context_built(self, **made: Any) -> None:
            counts["generations"] += 1
            counts["rollouts"] += made["completion_mask"].shape[0]
            counts["response_tokens"] += int(made["completion_mask"].sum())
            counts["expert_tokens"] += int(made["teacher_attention_mask"].sum())
            counts["expert_rows"] += int(made["self_distillation_mask"].sum())

    rewards = _rewards(work)
    with tempfile.TemporaryDirectory() as folder:
        trainer = SDPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(
                work["policy_dir"], trust_remote_code=False, use_safetensors=True
            ),
            reward_funcs=rewards,
            args=SDPOConfig(output_dir=folder, **_settings(work, sys.argv[2])),
            train_dataset=Dataset.from_list(work["rows"]),
            processing_class=AutoTokenizer.from_pretrained(
                work["policy_dir"],
                padding_side="left",
                truncation_side="left",
                trust_remote_code=False,
            ),
            callbacks=[Count()],
        )
        positions = Positions()
        ready = time.time()
        trainer.train()
        trainer.save_model(str(Path(folder) / "policy"))
        done = time.time()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    print(
        json.dumps(
            {
                "import_s": imported - STARTED,
                "set_up_s": ready - imported,
                "work_s": done - ready,
                "steps": trainer.state.global_step,
                "first_loss": logged[0]["self_distillation/distillation_loss"],
                "last_loss": logged[-1]["self_distillation/distillation_loss"],
                "positions": positions.count,
                **counts,
                "peak_mb": own_peak_mb(),
            }
        )
    )


def _settings(work: dict[str, Any], mode: str) -> dict[str, Any]:
    """One generation of all rollouts, then the same number of passes over them in batches of the
    same size. What would only slow it down is off: checkpointing, dropout, reports, saves."""
    num_rollouts = len(work["rows"]) * work["num_generations"]
    steps_per_pass, rest = divmod(num_rollouts, work["batch_rollouts"])
    passes, rest_of_passes = divmod(work["num_steps"], steps_per_pass)
    if rest or rest_of_passes:
        raise ValueError(
            f"{num_rollouts} rollouts in {work['num_steps']} batches of {work['batch_rollouts']}: "
            "SDPO needs whole passes of whole batches"
        )
    distillation: dict[str, Any] = {"distillation_mode": mode}
    if mode == "topk_logits":
        distillation |= {"distillation_topk": work["top_k"], "distillation_add_tail": True}
    return distillation | {
        "max_steps": work["num_steps"],
        "per_device_train_batch_size": work["batch_rollouts"],
        "gradient_accumulation_steps": 1,
        "steps_per_generation": steps_per_pass,
        "num_iterations": passes,
        "num_generations": work["num_generations"],
        "max_completion_length": work["max_new_tokens"],
        "temperature": 1.0,
        "learning_rate": work["learning_rate"],
        "lr_scheduler_type": "linear",
        "weight_decay": work["weight_decay"],
        "max_grad_norm": work["max_grad_norm"],
        "distillation_alpha": 1.0 if mode == "sampled_token" else 0.0,
        "teacher_model_kind": "base",
        "use_successful_as_teacher": False,
        "include_environment_feedback": True,
        "reprompt_template": "{prompt}{feedback}",
        "feedback_template": "{feedback_raw}",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "logging_steps": steps_per_pass,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "seed": 0,
    }


def _rewards(work: dict[str, Any]) -> Any:
    """The campaign's own verifier as a reward function."""
    from distil_core.config.models import ConsultParams
    from distil_core.problems.base import Problem
    from distil_core.verifiers import build_verifier

    verifier = build_verifier(ConsultParams.model_validate(work["consult"]))

    def verdict(completions: list[str], problem: list[str], **_: Any) -> list[float]:
        judged = zip(problem, completions, strict=True)
        return [
            verifier.verify(Problem(**json.loads(one)), text).reward or 0.0 for one, text in judged
        ]

    return verdict


if __name__ == "__main__":
    main()
