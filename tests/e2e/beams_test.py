"""Beam search by `headrace run`: what transformers finds, a row for each prompt and beam."""

import json
import unittest

import numpy as np
from harness import GOLDEN, EndToEndTest, read_rows, write_rows

BEAMS = 4
SEARCHES = json.loads((GOLDEN.parent / "beam_search" / "models.json").read_text(encoding="utf-8"))


def is_default(search):
    """What run does without --length_penalty and --early_stopping."""
    return search["length_penalty"] == 1.0 and search["early_stopping"] is True


class BeamsTest(EndToEndTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.engine = cls.make_engine(GOLDEN / "odd_heads/hf", "odd_heads", build_flags=(
            "--max_beam_width", BEAMS, "--max_batch_size", 2, "--tile_bytes", "64K"))
        cls.wanted = next(search for search in SEARCHES if search["model"] == "odd_heads"
                          and search["num_beams"] == BEAMS and not search["end_ids"]
                          and is_default(search))
        cls.prompt = read_rows(GOLDEN / "odd_heads/prompt.csv")[0]

    def run_beams(self, *flags):
        write_rows(self.folder / "prompts.csv", [self.prompt, self.prompt[:5]])
        return self.headrace(
            "run", "--engine_dir", self.engine, "--input_file", self.folder / "prompts.csv",
            "--max_output_len", self.wanted["max_new_tokens"], "--end_id", -1, "--num_beams", BEAMS,
            "--profile", self.profile, "--gpu_weights_percent", 0.5, *flags)

    def test_files_hold_a_row_for_each_prompt_and_beam(self):
        process = self.run_beams(
            "--output_npy", self.folder / "ids.npy", "--output_csv", self.folder / "ids.csv",
            "--output_log_probs_npy", self.folder / "log_probs.npy",
            "--output_cum_log_probs_npy", self.folder / "sums.npy")
        for text in range(2):
            for beam in range(BEAMS):
                self.assertIn(f"Output [Text {text} Beam {beam}]: ", process.stdout)
        ids = np.load(self.folder / "ids.npy")
        new = self.wanted["max_new_tokens"]
        self.assertEqual(ids.shape, (2 * BEAMS, len(self.prompt) + new))
        self.assertEqual(ids[:BEAMS, len(self.prompt):].tolist(), self.wanted["tokens"])
        self.assertEqual(read_rows(self.folder / "ids.csv"), ids.tolist())
        sums = np.load(self.folder / "sums.npy")
        self.assertEqual(sums.shape, (2, BEAMS))
        np.testing.assert_allclose(sums[0] / new, self.wanted["scores"], atol=1e-3)
        log_probs = np.load(self.folder / "log_probs.npy")
        self.assertEqual(log_probs.shape, (2, BEAMS, new))
        np.testing.assert_allclose(log_probs.sum(axis=2), sums, rtol=1e-4)

    def test_logits_are_those_along_each_beam_s_path(self):
        self.run_beams(
            "--output_npy", self.folder / "ids.npy", "--output_logits_npy", self.folder / "x.npy",
            "--output_log_probs_npy", self.folder / "log_probs.npy")
        new = self.wanted["max_new_tokens"]
        logits = np.load(self.folder / "x_generation.npy").astype(np.float64)
        self.assertEqual(logits.shape[:3], (2, BEAMS, new))
        context = np.load(self.folder / "x_context.npy")
        self.assertEqual(context.shape, (len(self.prompt) + 5, logits.shape[3]))
        # The first token of every beam comes from the prompt's last row.
        for beam in range(BEAMS):
            np.testing.assert_array_equal(logits[0, beam, 0], context[len(self.prompt) - 1])
        log_probs = logits - np.log(np.exp(logits).sum(axis=3, keepdims=True))
        rows = np.load(self.folder / "ids.npy")
        for text, prompt in enumerate((self.prompt, self.prompt[:5])):
            own = rows[text * BEAMS:(text + 1) * BEAMS, len(prompt):len(prompt) + new]
            chosen = np.take_along_axis(log_probs[text], own[:, :, None], axis=2)[:, :, 0]
            np.testing.assert_allclose(chosen, np.load(self.folder / "log_probs.npy")[text],
                                       atol=1e-4)

    def test_streaming_prints_all_beams_at_every_interval(self):
        new = self.wanted["max_new_tokens"]
        process = self.run_beams("--streaming", "--streaming_interval", 2)
        whole = self.run_beams().stdout.splitlines()
        printed = process.stdout.splitlines()
        for text in range(2):
            for beam in range(BEAMS):
                name = f"Output [Text {text} Beam {beam}]: "
                own = [line.split('"')[1].split(", ") for line in printed if line.startswith(name)]
                self.assertEqual([len(ids) for ids in own], [*range(2, new, 2), new])
                last = next(line for line in whole if line.startswith(name))
                self.assertEqual(", ".join(own[-1]), last.split('"')[1])

    def test_interactive_shows_the_best_beam(self):
        engine = self.make_text_engine("text", 1104, 64, build_flags=("--max_beam_width", BEAMS))
        flags = ("run", "--engine_dir", engine, "--profile", self.profile, "--num_beams", BEAMS,
                 "--max_output_len", 12, "--end_id", -1)
        (result,) = json.loads(self.headrace(*flags, "--input_text", "Once", "--json").stdout)
        process = self.headrace(*flags, "--interactive", input="Once\n\nOnce\n")
        answer = result["output_text"]
        self.assertEqual(process.stdout, f"> {answer}\n> > {answer}\n> ")

    def test_json_holds_the_best_and_all_beams(self):
        results = json.loads(self.run_beams("--json").stdout)
        self.assertEqual([beam["output_ids"] for beam in results[0]["beams"]],
                         self.wanted["tokens"])
        self.assertEqual(results[0]["output_ids"], self.wanted["tokens"][0])
        self.assertEqual(len(results[1]["beams"]), BEAMS)


if __name__ == "__main__":
    unittest.main()
