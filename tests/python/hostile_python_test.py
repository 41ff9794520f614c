"""What a careless or hostile user of the Python packages can do: an error each time, never a hang."""

import math
import re
import threading
import unittest

import numpy as np

import headrace
import tensorrt_llm.bindings.executor as trtllm
from python_harness import PythonTest

HUGE = 1 << 70
NAN = math.nan


class HostileTest(PythonTest):
    def open(self, **config):
        executor = headrace.Executor(self.engine,
                                     headrace.ExecutorConfig(**{**self.options, **config}))
        self.addCleanup(executor.shutdown)
        return executor

    def upstream(self, config=None):
        executor = trtllm.Executor(self.engine, trtllm.ModelType.DECODER_ONLY,
                                   config or trtllm.ExecutorConfig(1))
        self.addCleanup(executor.shutdown)
        return executor

    def serve(self, executor, request):
        (response,) = executor.await_responses(executor.enqueue(request))
        return response

    def check_alive(self, executor):
        result = self.serve(executor, headrace.Request(self.prompt, 3)).result
        self.assertEqual(result.tokens[0][-3:], self.tokens[:3])

    def test_configs_that_cannot_be(self):
        for part, config in (("0.0 and 1.0", {"gpu_weights_percent": NAN}),
                             ("0.0 and 1.0", {"gpu_weights_percent": -1}),
                             ("gpu_weights_percent cannot be", {"gpu_weights_percent": "much"}),
                             ("max_batch_size", {"max_batch_size": -1}),
                             ("max_batch_size cannot be", {"max_batch_size": HUGE}),
                             ("max_beam_width", {"max_beam_width": 5}),
                             ("max_queue_size", {"max_queue_size": 0}),
                             ("capacity_policy", {"capacity_policy": "greedy"}),
                             ("fraction", {"kv_cache": headrace.KvCacheConfig(
                                 free_memory_fraction=NAN)}),
                             ("threads", {"threads": 1 << 30}),
                             ("host_threads -1: use 0 to 1024", {"host_threads": -1}),
                             ("host_threads 1025", {"host_threads": 1025}),
                             ("host_threads cannot be", {"host_threads": "all"}),
                             ("device", {"device": "tpu"})):
            with self.subTest(part), self.assertRaisesRegex((ValueError, TypeError), part):
                self.open(**config)

    def test_requests_that_cannot_be(self):
        executor = self.open(max_beam_width=2)
        bias = np.zeros(1003, np.float32)
        for part, request in (
                ("temperature", {"sampling": headrace.SamplingOptions(temperature=NAN)}),
                ("top_p", {"sampling": headrace.SamplingOptions(top_p=2)}),
                ("3 beams", {"sampling": headrace.SamplingOptions(beam_width=3)}),
                ("num_return_sequences",
                 {"sampling": headrace.SamplingOptions(num_return_sequences=-1)}),
                ("vocabulary", {"prompt": [1003]}),
                ("vocabulary", {"prompt": [-1]}),
                ("empty", {"prompt": []}),
                ("new tokens", {"max_new_tokens": -5}),
                ("12 values", {"embedding_bias": bias[:12]}),
                ("not a number", {"embedding_bias": bias * NAN}),
                ("empty", {"stop_words": [[]]}),
                ("vocabulary", {"bad_words": [[1 << 30]]}),
                ("end_id", {"end_id": 1003}),
                ("priority", {"priority": NAN}),
                ("deadline_ms", {"deadline_ms": -1}),
                ("'nobody'", {"logits_processor": "nobody"})):
            with self.subTest(part):
                response = self.serve(executor, headrace.Request(
                    **{"prompt": self.prompt, "max_new_tokens": 2, **request}))
                self.assertIn(part, response.error)
                self.assertEqual(response.error[0], "[")
        for part, request in (("max_new_tokens", {"max_new_tokens": HUGE}),
                              ("priority", {"priority": "first"}),
                              ("end_id", {"end_id": 1.5}),
                              ("client_id", {"client_id": -1}),
                              ("embedding_bias", {"embedding_bias": ["x"]}),
                              ("stop_words", {"stop_words": [["x"]]}),
                              ("prompt", {"prompt": "text"}),
                              ("prompt", {"prompt": None})):
            with self.subTest(part), self.assertRaisesRegex((ValueError, TypeError), part):
                executor.enqueue(headrace.Request(
                    **{"prompt": self.prompt, "max_new_tokens": 2, **request}))
        self.assertEqual(executor.enqueue_all([]), [])
        self.check_alive(executor)

    def test_a_million_stop_words(self):
        executor = self.open()
        words = [np.array([1, 2, 3])] * 1_000_000
        response = self.serve(executor, headrace.Request(self.prompt, 3, stop_words=words))
        self.assertIsNone(response.error)

    def test_timeouts(self):
        executor = self.open()
        for timeout in (0, -1, -math.inf, 1e-9):
            self.assertEqual(executor.await_responses(timeout=timeout), [])
        for timeout in (NAN, "soon"):
            with self.assertRaisesRegex((ValueError, TypeError), r"\[executor\] a timeout"):
                executor.await_responses(timeout=timeout)
        executor.enqueue(headrace.Request(self.prompt, 1))
        self.assertEqual(len(executor.await_responses(timeout=math.inf)), 1)

    def test_ids_of_any_integer_type_and_others(self):
        executor = self.open()
        ids = executor.enqueue_all([headrace.Request(self.prompt, 1)] * 2)
        lists = executor.await_responses(np.array(ids))
        self.assertEqual([[one.request_id for one in own] for own in lists], [[ids[0]], [ids[1]]])
        (gone,) = executor.await_responses(np.int64(ids[0]))
        self.assertIn("already been processed", gone.error)
        calls = (executor.await_responses, executor.cancel, executor.responses_ready)
        for call in calls:
            for wrong in (-1, 1 << 64):
                with self.assertRaisesRegex(ValueError, f"a request id cannot be {wrong}: use"):
                    call(wrong)
            for wrong in ("x", 1.5, b"1"):
                with self.assertRaisesRegex(TypeError, f"a request id cannot be {wrong!r}: use"):
                    call(wrong)
        for wrong in ([[1]], ["x"], np.array([[1]]), np.array([1.0])):
            with self.assertRaisesRegex(TypeError, "a request id cannot be"):
                executor.await_responses(wrong)
        upstream = self.upstream()
        self.assertEqual([len(own) for own in upstream.await_responses(np.array([1, 2]))], [1, 1])
        with self.assertRaisesRegex(RuntimeError, "a request id cannot be -1"):
            upstream.cancel_request(-1)

    def test_objects_of_other_types(self):
        for config, part in (({}, "use an ExecutorConfig"), (0.5, "use an ExecutorConfig")):
            with self.assertRaisesRegex(TypeError, part):
                headrace.Executor(self.engine, config)
        with self.assertRaisesRegex(TypeError, r"\{'max_tokens': 64\} is no headrace.KvCacheConfig"):
            self.open(kv_cache={"max_tokens": 64})
        executor = self.open()
        with self.assertRaisesRegex(TypeError, "'x' is no headrace.Request"):
            executor.enqueue("x")
        with self.assertRaisesRegex(TypeError, "is no headrace.SamplingOptions"):
            executor.enqueue(headrace.Request(self.prompt, 1, sampling={"top_k": 2}))

    def test_attributes_that_are_not_there(self):
        for executor in (self.open(), self.upstream()):
            with self.assertRaises(AttributeError):
                executor.gpu_weight_percent = 0.5

    def test_percentages_that_cannot_be_set(self):
        executor = self.open()
        numbers = ": use a number from 0.0 to 1.0"
        with self.assertRaisesRegex(
                TypeError, f"cannot be set to 'auto'{numbers} " r'\("auto" is for opening\)'):
            executor.gpu_weights_percent = "auto"
        for wrong in ("0.5", None, [0.5]):
            with self.assertRaisesRegex(TypeError, f"cannot be set to .*{numbers}"):
                executor.gpu_weights_percent = wrong
        executor.gpu_weights_percent = np.float32(0.5)
        self.assertEqual(executor.gpu_weights_percent, 0.5)
        upstream = self.upstream()
        for one, error in ((executor, ValueError), (upstream, RuntimeError)):
            one.shutdown()
            with self.assertRaisesRegex(error, "Shutdown called"):
                one.gpu_weights_percent

    def test_a_processor_that_waits_for_its_executor_fails(self):
        box = []

        def wait(step):
            box[0].await_responses(step.request_id)

        def change(_):
            box[0].gpu_weights_percent = 0.5

        def end(_):
            box[0].shutdown()

        def cancel(step):
            box[0].cancel(step.request_id)

        functions = {"wait": wait, "change": change, "end": end, "cancel": cancel}
        executor = self.open(logits_processors=functions)
        box.append(executor)
        for name in ("wait", "change", "end"):
            response = self.serve(executor, headrace.Request([1], 9, logits_processor=name))
            self.assertIn("in a logits processor", response.error)
        response = self.serve(executor, headrace.Request([1], 9, logits_processor="cancel"))
        self.assertEqual(response.result.finish_reasons, [headrace.FinishReason.CANCELLED])
        self.check_alive(executor)
        box.clear()

    def test_processors_that_do_harm(self):
        class Mute(Exception):
            def __str__(self):
                raise RuntimeError("no words")

        def resize(step):
            step.logits.resize((0, 0), refcheck=False)

        def mute(_):
            raise Mute()

        def leave(_):
            raise SystemExit(3)

        def nan(step):
            step.logits[:] = NAN

        functions = {"resize": resize, "mute": mute, "leave": leave, "nan": nan,
                     "none": lambda: None}
        executor = self.open(logits_processors=functions)
        for name, part in (("resize", "resized"), ("mute", ""), ("leave", "SystemExit"),
                           ("nan", "not a number"), ("none", "TypeError")):
            with self.subTest(name):
                response = self.serve(executor, headrace.Request([1], 3, logits_processor=name))
                self.assertIn(part, response.error)
                self.check_alive(executor)

    def test_a_full_queue(self):
        go = threading.Event()
        self.addCleanup(go.set)
        executor = self.open(max_batch_size=1, max_queue_size=1,
                             logits_processors={"wait": lambda _: go.wait()})
        ids = executor.enqueue_all(
            headrace.Request([1, 2], 2, logits_processor="wait") for _ in range(4))
        (refused,) = executor.await_responses(ids[3])
        self.assertIn("Maximum queue size of 1 has been reached", refused.error)
        go.set()
        (served,) = executor.await_responses(ids[0])
        self.assertIsNone(served.error)
        self.check_alive(executor)

    def test_a_request_larger_than_the_cache(self):
        executor = self.open(kv_cache=headrace.KvCacheConfig(max_tokens=64))
        response = self.serve(executor, headrace.Request(self.prompt, 64))
        self.assertIn("the KV cache holds", response.error)
        self.check_alive(executor)

    def test_shutdown_with_requests_in_flight(self):
        go = threading.Event()
        executor = self.open(logits_processors={"wait": lambda _: go.wait()})
        ids = executor.enqueue_all(
            headrace.Request([1, 2], 50, logits_processor="wait") for _ in range(2))
        got = []
        waiting = threading.Thread(target=lambda: got.extend(executor.await_responses(ids[0])))
        waiting.start()
        ending = threading.Thread(target=executor.shutdown)
        ending.start()
        while executor.can_enqueue():
            pass
        go.set()
        ending.join()
        waiting.join()
        self.assertTrue(not got or "Shutdown called" in got[0].error)
        with self.assertRaisesRegex(ValueError, "Shutdown called"):
            executor.await_responses(ids[1])

    def test_upstreams_names(self):
        window = trtllm.KvCacheConfig(max_attention_window=[3])
        sink = trtllm.KvCacheConfig(sink_token_length=4)
        medusa = trtllm.DecodingConfig(trtllm.DecodingMode.Medusa())
        ranks = trtllm.ParallelConfig(device_ids=[0, 1])
        for part, config in (("attention window of 3", {"kv_cache_config": window}),
                             ("sink", {"kv_cache_config": sink}),
                             ("speculative", {"decoding_config": medusa}),
                             ("one is supported", {"parallel_config": ranks})):
            with self.subTest(part), self.assertRaisesRegex(NotImplementedError, part):
                self.upstream(trtllm.ExecutorConfig(1, **config))
        for part, config in (("0.0 and 1.0", {"gpu_weights_percent": NAN}),
                             ("max_beam_width 0", {"max_beam_width": 0}),
                             ("max_queue_size", {"max_queue_size": 0}),
                             ("max_batch_size", {"max_batch_size": -1})):
            with self.subTest(part), self.assertRaisesRegex(RuntimeError, part):
                self.upstream(trtllm.ExecutorConfig(**config))
        for error, config in (
                ("ExecutorConfig.kv_cache_config cannot be {}: use a KvCacheConfig",
                 {"kv_cache_config": {}}),
                ("ExecutorConfig.scheduler_config cannot be None: use a SchedulerConfig",
                 {"scheduler_config": None}),
                ("ExecutorConfig.batching_type cannot be 1: use a BatchingType",
                 {"batching_type": 1}),
                ("SchedulerConfig.capacity_scheduler_policy cannot be 'MAX_UTILIZATION': use a "
                 "CapacitySchedulerPolicy",
                 {"scheduler_config": trtllm.SchedulerConfig("MAX_UTILIZATION")}),
                ("ExecutorConfig.parallel_config cannot be [0]: use a ParallelConfig",
                 {"parallel_config": [0]})):
            with self.subTest(error), self.assertRaisesRegex(TypeError, re.escape(error)):
                self.upstream(trtllm.ExecutorConfig(1, **config))
        executor = self.upstream()
        tokens = self.prompt.tolist()
        for part, request in (("temperature", {"sampling_config":
                                               trtllm.SamplingConfig(temperature=NAN)}),
                              ("vocabulary", {"stop_words": [[-1]]}),
                              ("12 values", {"embedding_bias": np.zeros(12)}),
                              ("'nobody'", {"logits_post_processor_name": "nobody"})):
            with self.subTest(part):
                (response,) = executor.await_responses(executor.enqueue_request(
                    trtllm.Request(input_token_ids=tokens, max_tokens=2, **request)))
                self.assertIn(part, response.error_msg)
        counted = trtllm.Request(input_token_ids=tokens, max_tokens=2,
                                 position_ids=list(range(len(tokens))))
        (response,) = executor.await_responses(executor.enqueue_request(counted))
        self.assertEqual(response.result.output_token_ids, [tokens + self.tokens[:2]])
        counted.position_ids = [7] * len(tokens)
        with self.assertRaisesRegex(NotImplementedError, "position_ids"):
            executor.enqueue_request(counted)

    def test_upstreams_beams_stream_whole(self):
        executor = self.upstream(trtllm.ExecutorConfig(2))
        request = trtllm.Request(input_token_ids=self.prompt.tolist(), max_tokens=3, streaming=True,
                                 sampling_config=trtllm.SamplingConfig(2, num_return_sequences=3))
        with self.assertLogs("headrace", "WARNING"):
            request_id = executor.enqueue_request(request)
        told = []
        while not told or not told[-1].is_final:
            told += [response.result for response in executor.await_responses(request_id)]
        self.assertEqual([[len(beam) for beam in result.output_token_ids] for result in told],
                         [[1, 1], [2, 2], [3, 3]])


if __name__ == "__main__":
    unittest.main()
