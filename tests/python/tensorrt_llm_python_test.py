"""The package tensorrt_llm, used as TensorRT-LLM's clients use it."""

import datetime
import json
import os
import pathlib
import pickle
import time
import unittest
from unittest import mock

import numpy as np

import tensorrt_llm
import tensorrt_llm.bindings.executor as trtllm
from python_harness import PythonTest

SECONDS = datetime.timedelta(seconds=60)


class TensorRtLlmTest(PythonTest):
    def open(self, config=None):
        executor = trtllm.Executor(self.engine, trtllm.ModelType.DECODER_ONLY,
                                   config or trtllm.ExecutorConfig(1))
        self.addCleanup(executor.shutdown)
        return executor

    def request(self, max_tokens=5, **fields):
        return trtllm.Request(input_token_ids=self.prompt.tolist(), max_tokens=max_tokens, **fields)

    def test_a_request_and_its_response(self):
        executor = self.open()
        self.assertTrue(executor.can_enqueue_requests())
        request_id = executor.enqueue_request(self.request())
        (response,) = executor.await_responses(request_id)
        self.assertFalse(response.has_error())
        self.assertEqual(response.request_id, request_id)
        self.assertTrue(response.result.is_final)
        self.assertEqual(response.result.output_token_ids,
                         [self.prompt.tolist() + self.tokens[:5]])
        self.assertEqual(response.result.finish_reasons, [trtllm.FinishReason.LENGTH])

    def test_waiting_for_all_for_one_and_for_several(self):
        output = trtllm.OutputConfig()
        output.exclude_input_from_output = True
        with self.open() as executor:
            ids = executor.enqueue_requests([self.request(streaming=True, output_config=output)
                                             for _ in range(3)])
            tokens = {request_id: [] for request_id in ids}
            finished = 0
            while finished < len(ids):
                for response in executor.await_responses(SECONDS):
                    tokens[response.request_id] += response.result.output_token_ids[0]
                    finished += response.result.is_final
            self.assertEqual(list(tokens.values()), [self.tokens[:5]] * 3)
            ids = executor.enqueue_requests([self.request(output_config=output)] * 2)
            lists = executor.await_responses(ids, timeout=SECONDS)
            self.assertEqual([one.result.output_token_ids for (one,) in lists],
                             [[self.tokens[:5]]] * 2)
            self.assertEqual(executor.await_responses(datetime.timedelta(milliseconds=1)), [])
            self.assertEqual(executor.get_num_responses_ready(), 0)
        self.assertFalse(executor.can_enqueue_requests())
        with self.assertRaisesRegex(RuntimeError, "Shutdown"):
            executor.enqueue_request(self.request())

    def test_the_environment_chooses_the_device(self):
        with mock.patch.dict(os.environ, HEADRACE_DEVICE="gpu"):
            with self.assertRaisesRegex(RuntimeError, "HEADRACE_DEVICE 'gpu': use auto, cpu or cuda"):
                self.open()
        for device in ("cpu", "cuda", ""):
            with mock.patch.dict(os.environ, HEADRACE_DEVICE=device):
                self.assertEqual(trtllm.ExecutorConfig(1).to_headrace().device, device or "auto")

    def test_the_environment_chooses_the_host_threads(self):
        for threads in ("-1", "+3", "many", "2.5", "99999999999"):
            with mock.patch.dict(os.environ, HEADRACE_HOST_THREADS=threads):
                with self.assertRaisesRegex(RuntimeError, "use a number of threads, 0 or more"):
                    self.open()
        for threads, expected in (("0", 0), ("12", 12), ("", None)):
            with mock.patch.dict(os.environ, HEADRACE_HOST_THREADS=threads):
                self.assertEqual(trtllm.ExecutorConfig(1).to_headrace().host_threads, expected)

    def test_an_orchestrator_is_accepted(self):
        config = trtllm.ExecutorConfig(1)
        worker = pathlib.Path(tensorrt_llm.__file__).parent / "bin" / "executorWorker"
        config.parallel_config = trtllm.ParallelConfig(
            trtllm.CommunicationType.MPI, trtllm.CommunicationMode.ORCHESTRATOR, None, None,
            trtllm.OrchestratorConfig(True, str(worker)))
        config.debug_config = trtllm.DebugConfig(debug_tensor_names=["sequence_length"])
        with self.assertLogs("headrace", "WARNING") as logs:
            executor = self.open(config)
        self.assertIn("debug_config", "\n".join(logs.output))
        self.assertEqual(executor.get_latest_debug_tensors(), [])

    def test_logits_and_log_probs(self):
        output = trtllm.OutputConfig(return_log_probs=True, return_context_logits=True,
                                     return_generation_logits=True)
        executor = self.open(trtllm.ExecutorConfig(gpu_weights_percent=0.2))
        (response,) = executor.await_responses(
            executor.enqueue_request(self.request(output_config=output)))
        result = response.result
        self.assert_close(np.asarray(result.context_logits), self.context_logits)
        self.assertEqual(tuple(result.generation_logits.shape),
                         (1, 5, self.context_logits.shape[1]))
        self.assertAlmostEqual(sum(result.log_probs[0]), result.cum_log_probs[0], places=3)
        executor = self.open(trtllm.ExecutorConfig(2))
        (response,) = executor.await_responses(executor.enqueue_request(self.request(
            output_config=output, sampling_config=trtllm.SamplingConfig(beam_width=2))))
        self.assertEqual(tuple(response.result.generation_logits.shape),
                         (2, 5, self.context_logits.shape[1]))

    def test_logits_post_processors(self):
        def single(request_id, logits, ids, stream, client_id):
            self.assertEqual((len(ids), stream), (1, 0))
            logits[:] = -1e9
            logits[:, :, client_id] = 0

        def batched(request_ids, logits_batch, ids_batch, stream):
            for logits in logits_batch:
                logits[:] = -1e9
                logits[:, :, 9] = 0

        config = trtllm.ExecutorConfig(logits_post_processor_config=
                                       trtllm.LogitsPostProcessorConfig({"one": single}, batched))
        executor = self.open(config)
        one = self.request(2, client_id=8)
        one.logits_post_processor_name = "one"
        all_of_them = self.request(2)
        all_of_them.logits_post_processor_name = trtllm.Request.BATCHED_POST_PROCESSOR_NAME
        lists = executor.await_responses(executor.enqueue_requests([one, all_of_them]))
        self.assertEqual([response.result.output_token_ids[0][-2:] for (response,) in lists],
                         [[8, 8], [9, 9]])

    def test_embedding_bias_of_the_largest_number_forces_its_token(self):
        bias = np.zeros(1003, np.float32)
        bias[77] = np.finfo(np.float32).max
        executor = self.open()
        (response,) = executor.await_responses(
            executor.enqueue_request(self.request(3, embedding_bias=bias)))
        self.assertEqual(response.result.output_token_ids[0][-3:], [77] * 3)

    def test_errors_are_runtime_errors(self):
        with self.assertRaisesRegex(RuntimeError, "File does not exist"):
            trtllm.Executor("/nowhere", trtllm.ModelType.DECODER_ONLY, trtllm.ExecutorConfig(1))
        with self.assertRaises(NotImplementedError):
            trtllm.Executor(self.engine, trtllm.ModelType.ENCODER_ONLY, trtllm.ExecutorConfig(1))
        executor = self.open()
        (response,) = executor.await_responses(77)
        self.assertTrue(response.has_error())
        self.assertEqual(response.error_msg,
                         "ReqId 77 has already been processed and was terminated.")
        with self.assertRaisesRegex(RuntimeError, "already been processed"):
            response.result
        with self.assertRaisesRegex(RuntimeError, "max_tokens"):
            trtllm.Request(input_token_ids=[1])
        with self.assertRaisesRegex(NotImplementedError, "lora_config"):
            executor.enqueue_request(self.request(lora_config=trtllm.LoraConfig(1)))

    def test_stats(self):
        executor = self.open(trtllm.ExecutorConfig(request_stats_max_iterations=100))
        executor.await_responses(executor.enqueue_request(self.request()))
        (first, *_) = executor.get_latest_iteration_stats()
        self.assertEqual(first.inflight_batching_stats.num_ctx_tokens, len(self.prompt))
        self.assertEqual(json.loads(first.to_json_str())["iterLatencyMS"], first.iter_latency_ms)
        self.assertGreater(first.kv_cache_stats.used_num_blocks, 0)
        (first, *_) = executor.get_latest_request_stats()
        self.assertEqual(first.request_stats[0].stage, trtllm.RequestStage.GENERATION_IN_PROGRESS)

    def test_both_names_of_a_sampling_value_change_together(self):
        for made in (trtllm.SamplingConfig(seed=1, min_tokens=2),
                     trtllm.SamplingConfig(random_seed=1, min_length=2)):
            self.assertEqual((made.seed, made.random_seed), (1, 1))
            self.assertEqual((made.min_tokens, made.min_length), (2, 2))
            made.random_seed = 5
            made.min_tokens = 3
            self.assertEqual((made.seed, made.min_length), (5, 3))
            self.assertEqual(made.to_headrace(1).random_seed, 5)
            self.assertEqual(pickle.loads(pickle.dumps(made)), made)

    def test_timestamps_are_utc(self):
        self.addCleanup(time.tzset)  # after the environment is as it was
        with mock.patch.dict(os.environ, TZ="Asia/Tokyo"):
            time.tzset()
            executor = self.open()
            executor.await_responses(executor.enqueue_request(self.request()), timeout=SECONDS)
            told = executor.get_latest_iteration_stats()[-1].timestamp
        when = datetime.datetime.strptime(told + "+0000", "%m-%d-%Y %H:%M:%S.%f%z")
        self.assertLess(abs(datetime.datetime.now(datetime.timezone.utc) - when), 10 * SECONDS)

    def test_configs(self):
        self.assertEqual(trtllm.ExecutorConfig(0.5).gpu_weights_percent, 0.5)
        config = trtllm.ExecutorConfig(
            2, trtllm.SchedulerConfig(trtllm.CapacitySchedulerPolicy.MAX_UTILIZATION),
            trtllm.KvCacheConfig(enable_block_reuse=True, free_gpu_memory_fraction=0.5))
        config.gpu_weights_percent = 0.25
        self.assertEqual(pickle.loads(pickle.dumps(config)), config)
        self.assertIn("gpu_weights_percent=0.25", repr(config))
        native = config.to_headrace()
        self.assertEqual((native.capacity_policy, native.kv_cache.free_memory_fraction),
                         ("max_utilization", 0.5))
        sampling = trtllm.SamplingConfig(1, top_p=0.9, random_seed=3, min_length=2)
        native = sampling.to_headrace(2)
        self.assertEqual((native.top_k, native.random_seed, native.min_length,
                          native.num_return_sequences), (0, 3, 2, 2))

    def test_builder(self):
        config = tensorrt_llm.Builder().create_builder_config(
            "float32", strongly_typed=True, weight_streaming=True, name="llama", max_batch_size=4)
        plain = config.to_dict()["builder_config"]
        self.assertEqual((plain["name"], plain["max_batch_size"], plain["weight_streaming"]),
                         ("llama", 4, True))
        self.assertIs(tensorrt_llm.builder.BuildConfig, tensorrt_llm.BuildConfig)
        self.assertTrue(tensorrt_llm.BuildConfig(weight_streaming=True).weight_streaming)
        with self.assertRaisesRegex(NotImplementedError, "tensor_parallel"):
            tensorrt_llm.Builder().create_builder_config("float16", tensor_parallel=2)


if __name__ == "__main__":
    unittest.main()
