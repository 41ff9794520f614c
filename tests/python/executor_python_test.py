"""headrace.Executor from Python: values in and out, waiting, logits processors, errors."""

import gc
import logging
import os
import pickle
import signal
import threading
import time
import unittest
from unittest import mock

import numpy as np

import headrace
from headrace.mailbox import Mailbox
from python_harness import PythonTest


class ExecutorTest(PythonTest):
    def open(self, **config):
        executor = headrace.Executor(self.engine,
                                     headrace.ExecutorConfig(**{**self.options, **config}))
        self.addCleanup(executor.shutdown)
        return executor

    def serve(self, executor, request):
        (response,) = executor.await_responses(executor.enqueue(request))
        return response

    def test_tokens_and_logits_are_transformers_at_every_percentage(self):
        output = headrace.OutputOptions(log_probs=True, context_logits=True,
                                        generation_logits=True, exclude_input=True)
        request = headrace.Request(self.prompt, len(self.tokens), output=output)
        logits = []
        for percent in (0.0, 0.4, 1.0, "auto"):
            result = self.serve(self.open(gpu_weights_percent=percent), request).result
            self.assertEqual(result.tokens, [self.tokens])
            self.assertEqual(result.finish_reasons, [headrace.FinishReason.LENGTH])
            self.assertEqual(result.context_logits.dtype, np.float32)
            self.assert_close(result.context_logits, self.context_logits)
            self.assertEqual(result.generation_logits.shape,
                             (len(self.tokens), self.context_logits.shape[1]))
            self.assertEqual(result.generation_logits.argmax(axis=1).tolist(), self.tokens)
            self.assertAlmostEqual(sum(result.log_probs[0]), result.cum_log_probs[0], places=3)
            logits.append(result.context_logits.tobytes())
        self.assertEqual(len(set(logits)), 1)

    def test_beams_have_the_logits_of_their_own_paths(self):
        output = headrace.OutputOptions(log_probs=True, generation_logits=True, exclude_input=True)
        result = self.serve(self.open(max_beam_width=3, normalize_log_probs=False), headrace.Request(
            self.prompt, 6, sampling=headrace.SamplingOptions(beam_width=3), output=output)).result
        logits = result.generation_logits.astype(np.float64)
        self.assertEqual(logits.shape, (3, 6, self.context_logits.shape[1]))
        log_probs = logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))
        chosen = np.take_along_axis(log_probs, np.array(result.tokens)[:, :, None], axis=2)
        np.testing.assert_allclose(chosen[:, :, 0], result.log_probs, atol=1e-4)

    def test_the_run_command_writes_what_the_executor_gives(self):
        prompt = self.folder / "prompt.csv"
        prompt.write_text(",".join(map(str, self.prompt)), encoding="utf-8")
        drawn = headrace.SamplingOptions(num_return_sequences=3, temperature=1.5, top_k=0, top_p=0.9,
                                         random_seed=11, no_repeat_ngram_size=2)
        beams = headrace.SamplingOptions(beam_width=4, num_return_sequences=2,
                                         no_repeat_ngram_size=1)
        for sampling, flags in (
                (drawn, ("--temperature", 1.5, "--top_k", 0, "--top_p", 0.9, "--random_seed", 11,
                         "--num_return_sequences", 3, "--no_repeat_ngram_size", 2)),
                (beams, ("--num_beams", 4, "--num_return_sequences", 2, "--no_repeat_ngram_size", 1))):
            self.headrace("run", "--engine_dir", self.engine, "--profile", self.profile, "--device",
                          self.options["device"], "--input_file", prompt, "--max_output_len", 8,
                          "--end_id", -1, "--output_npy", self.folder / "ids.npy", *flags)
            executor = self.open(max_beam_width=sampling.beam_width)
            responses = executor.await_responses(executor.enqueue(
                headrace.Request(self.prompt, 8, sampling=sampling)))
            given = sorted((response.result.sequence_index, response.result.tokens)
                           for response in responses)
            rows = [row for _, tokens in given for row in tokens]
            self.assertEqual(np.load(self.folder / "ids.npy").tolist(), rows)
            executor.shutdown()

    def test_prompts_of_any_integer_type(self):
        executor = self.open()
        for dtype in (np.uint16, np.int32, np.int64, np.uint64):
            response = self.serve(executor, headrace.Request(self.prompt.astype(dtype), 2))
            self.assertEqual(response.result.tokens, [self.prompt.tolist() + self.tokens[:2]])
        strided = np.repeat(self.prompt, 2)[::2]
        self.assertEqual(self.serve(executor, headrace.Request(strided, 1)).error, None)
        with self.assertRaisesRegex(TypeError, "Request.prompt: not integers"):
            executor.enqueue(headrace.Request([1.5], 2))
        with self.assertRaisesRegex(ValueError, "1099511627776 is no token id"):
            executor.enqueue(headrace.Request([1 << 40], 2))
        with self.assertRaisesRegex(ValueError, "not one row"):
            executor.enqueue(headrace.Request([[1, 2]], 2))
        with self.assertRaisesRegex(TypeError, "max_new_tokens cannot be 'many'"):
            executor.enqueue(headrace.Request([1], "many"))

    def test_streaming_gives_the_same_tokens_one_by_one(self):
        executor = self.open(gpu_weights_percent=0.3)
        request_id = executor.enqueue(headrace.Request(self.prompt, 6, streaming=True))
        responses = []
        while not responses or not responses[-1].result.is_final:
            responses += executor.await_responses(request_id, timeout=30)
        tokens = [token for response in responses for token in response.result.tokens[0]]
        self.assertEqual(tokens, self.tokens[:6])
        self.assertEqual(len(responses), 6)
        self.assertEqual([response.result.decoding_iterations for response in responses],
                         [1, 2, 3, 4, 5, 6])

    def test_several_requests_and_percentages_that_change_meanwhile(self):
        executor = self.open(gpu_weights_percent=0.0, request_stats_max=100)
        ids = executor.enqueue_all(headrace.Request(self.prompt, 40) for _ in range(6))
        for percent in (0.7, 0.1, 1.0):
            executor.gpu_weights_percent = percent
        self.assertEqual(executor.gpu_weights_percent, 1.0)
        for (response,) in executor.await_responses(ids):
            self.assertEqual(response.result.tokens, [self.prompt.tolist() + self.tokens[:40]])
        stats = executor.latest_iteration_stats()
        self.assertEqual(sum(one.completed_requests for one in stats), 6)
        self.assertGreater(stats[-1].kv_cache.max_blocks, 0)
        stages = {one.stage for passes in executor.latest_request_stats()
                  for one in passes.requests}
        self.assertIn("generation_in_progress", stages)
        with self.assertRaises(ValueError):
            executor.gpu_weights_percent = 1.5

    def test_logits_processor_forces_a_token_and_may_keep_what_it_saw(self):
        seen = []

        def force(step):
            seen.append(step)
            step.logits[:] = -1e9
            step.logits[:, 7] = 0

        executor = self.open(logits_processors={"force": force})
        response = self.serve(executor, headrace.Request([1, 2], 3, logits_processor="force",
                                                         client_id=5))
        self.assertEqual(response.result.tokens, [[1, 2, 7, 7, 7]])
        self.assertEqual([step.tokens[0].tolist() for step in seen],
                         [[1, 2], [1, 2, 7], [1, 2, 7, 7]])
        self.assertEqual({(step.request_id, step.client_id) for step in seen},
                         {(response.request_id, 5)})
        executor.shutdown()
        gc.collect()
        self.assertEqual(seen[0].logits.shape, (1, executor_vocab := len(seen[0].logits[0])))
        self.assertEqual(seen[0].logits.argmax(), 7)
        self.assertGreater(executor_vocab, 7)

    def test_batched_logits_processor(self):
        def force(steps):
            for step in steps:
                step.logits[:] = -1e9
                step.logits[:, step.client_id] = 0

        executor = self.open(batched_logits_processor=force)
        ids = executor.enqueue_all(
            headrace.Request([1, 2], 2, client_id=client,
                             logits_processor=headrace.BATCHED_LOGITS_PROCESSOR)
            for client in (11, 12))
        tokens = [response.result.tokens[0][2:] for (response,) in executor.await_responses(ids)]
        self.assertEqual(tokens, [[11, 11], [12, 12]])

    def test_what_a_logits_processor_raises_ends_its_request_alone(self):
        def bad(_):
            raise LookupError("no such grammar")

        executor = self.open(logits_processors={"bad": bad})
        ids = executor.enqueue_all([headrace.Request([1, 2], 3, logits_processor="bad"),
                                    headrace.Request(self.prompt, 3)])
        (failed,), (served,) = executor.await_responses(ids)
        self.assertIn("LookupError: no such grammar", failed.error)
        self.assertEqual(served.result.tokens[0][-3:], self.tokens[:3])

    def test_errors_have_pythons_types(self):
        with self.assertRaisesRegex(FileNotFoundError, "File does not exist"):
            headrace.Executor("/nowhere")
        with self.assertRaisesRegex(ValueError, "gpu weights|percent"):
            self.open(gpu_weights_percent=1.2)
        with self.assertRaisesRegex(TypeError, "ExecutorConfig.gpu_weights_percent"):
            self.open(gpu_weights_percent="some")
        with self.assertRaises(MemoryError):
            self.open(memory_limit_bytes=1)
        executor = self.open()
        self.assertIn("vocabulary", self.serve(executor, headrace.Request([1 << 20], 1)).error)
        (gone,) = executor.await_responses(12345)
        self.assertEqual(gone.error, "ReqId 12345 has already been processed and was terminated.")
        executor.shutdown()
        self.assertFalse(executor.can_enqueue())
        with self.assertRaisesRegex(ValueError, "Shutdown called"):
            executor.enqueue(headrace.Request([1], 1))

    def test_ctrl_c_ends_a_wait(self):
        executor = self.open()
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        begin = time.monotonic()
        with self.assertRaises(KeyboardInterrupt):
            executor.await_responses()
        self.assertLess(time.monotonic() - begin, 5)
        self.assertEqual(executor.await_responses(timeout=0.01), [])

    def test_what_ctrl_c_interrupts_comes_again(self):
        held = threading.Event()
        executor = self.open(logits_processors={"hold": lambda step: held.wait() and None},
                             max_batch_size=1)
        self.addCleanup(held.set)
        quick, slow = executor.enqueue_all(
            [headrace.Request(self.prompt, 3),
             headrace.Request(self.prompt, 3, logits_processor="hold")])
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
        with self.assertRaises(KeyboardInterrupt):
            executor.await_responses([quick, slow, 12345])
        self.assertEqual((executor.responses_ready(), executor.responses_ready(quick),
                          executor.responses_ready(12345)), (1, 1, 0))
        (early,), late = executor.await_responses([quick, slow], timeout=0.1)
        self.assertEqual((early.result.tokens[0][-3:], late), (self.tokens[:3], []))
        self.assertEqual(executor.responses_ready(), 0)
        held.set()
        self.assertEqual(executor.await_responses(slow)[0].result.tokens[0][-3:], self.tokens[:3])

    def test_responses_that_nobody_saw_come_before_later_ones(self):
        executor = self.open()
        request_id = executor.enqueue(headrace.Request(self.prompt, 5, streaming=True))
        with mock.patch("headrace.executor.make_response", side_effect=KeyboardInterrupt):
            with self.assertRaises(KeyboardInterrupt):
                executor.await_responses()
        responses = executor.await_responses()
        while not responses[-1].result.is_final:
            responses += executor.await_responses(request_id, timeout=30)
        tokens = [response.result.tokens[0][0] for response in responses]
        self.assertEqual(tokens, self.tokens[:5])

    def test_a_mailbox_keeps_what_others_wait_for(self):
        class Interrupted:
            def _check_process(self):
                pass

            def enqueue_all(self, requests):
                return list(range(len(requests)))

            def _await_into(self, arrived, timeout):
                arrived.extend(fields)
                raise KeyboardInterrupt

        fields = [(request_id, None, True, 0, True, [[request_id]], [], [], None, None, 1, ["length"])
                  for request_id in (0, 1)]
        mailbox = Mailbox(Interrupted())
        mailbox.enqueue([None, None])
        with self.assertRaises(KeyboardInterrupt):
            mailbox.wait([0])
        (other,) = mailbox.wait([1])
        self.assertEqual(other.result.tokens, [[1]])

    def test_waiting_lets_other_threads_run(self):
        executor = self.open()
        count = 0
        waiter = threading.Thread(target=executor.await_responses, kwargs={"timeout": 0.5})
        waiter.start()
        while waiter.is_alive():
            count += 1
        self.assertGreater(count, 1000)

    def test_log_goes_to_logging_or_to_a_function(self):
        with self.assertLogs("headrace", logging.INFO) as logs:
            self.open()
        self.assertIn("Set gpu weights percent", "\n".join(logs.output))
        lines = []
        self.open(log=lambda level, line: lines.append((level, line)))
        self.assertIn("info", {level for level, _ in lines})

    def test_options_pickle_print_and_compare(self):
        config = headrace.ExecutorConfig(gpu_weights_percent=0.25,
                                         kv_cache=headrace.KvCacheConfig(max_tokens=64))
        request = headrace.Request([1, 2], 3, sampling=headrace.SamplingOptions(top_k=4))
        for value in (config, request, headrace.OutputOptions(log_probs=True)):
            self.assertEqual(pickle.loads(pickle.dumps(value)), value)
        self.assertIn("gpu_weights_percent=0.25", repr(config))
        self.assertIn("top_k=4", repr(request))
        for value, wrong, near in ((config, "gpu_weight_percent", "gpu_weights_percent"),
                                   (config.kv_cache, "max_token", "max_tokens"),
                                   (request, "max_tokens", "max_new_tokens"),
                                   (request.sampling, "topk", "top_k"),
                                   (headrace.SamplingParams(), "max_token", "max_tokens"),
                                   (headrace.OutputOptions(), "logprobs", "log_probs"),
                                   (headrace.BuildConfig(), "max_seqlen", "max_seq_len")):
            with self.assertRaisesRegex(AttributeError, f"has no field '{wrong}': use '{near}'"):
                setattr(value, wrong, 1)


if __name__ == "__main__":
    unittest.main()
