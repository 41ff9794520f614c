"""The package tensorrt_llm, used as TensorRT-LLM's clients use it."""

import datetime
import json
import os
import pathlib
import pickle
import tempfile
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
        self.assertEqual((response.result.decoding_iter, response.result.sequence_index,
                          response.result.is_sequence_final), (5, 0, True))
        self.assertIsNone(response.result.context_phase_params)

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
            trtllm.CommunicationType.MPI, trtllm.CommunicationMode.ORCHESTRATOR, [1], None,
            trtllm.OrchestratorConfig(True, str(worker), spawn_processes=False))
        config.extended_runtime_perf_knob_config.multi_block_mode = False
        config.debug_config = trtllm.DebugConfig(debug_tensor_names=["sequence_length"])
        with self.assertLogs("headrace", "WARNING") as logs:
            executor = self.open(config)
        self.assertIn("debug_config", "\n".join(logs.output))
        self.assertIn("Device 1: the first visible one is used", "\n".join(logs.output))
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
        with self.assertRaisesRegex(NotImplementedError, "context_phase_params"):
            executor.enqueue_request(
                self.request(context_phase_params=trtllm.ContextPhaseParams([1])))
        encoder = trtllm.OutputConfig(return_encoder_output=True)
        with self.assertRaisesRegex(NotImplementedError, "return_encoder_output"):
            executor.enqueue_request(self.request(output_config=encoder))

    def test_stats(self):
        executor = self.open(trtllm.ExecutorConfig(request_stats_max_iterations=100))
        executor.await_responses(executor.enqueue_request(self.request()))
        (first, *_) = executor.get_latest_iteration_stats()
        self.assertEqual(first.inflight_batching_stats.num_ctx_tokens, len(self.prompt))
        told = json.loads(first.to_json_str())
        self.assertEqual(told["iterLatencyMS"], first.iter_latency_ms)
        self.assertEqual(list(told), [  # as C++ writes them
            "timestamp", "iter", "iterLatencyMS", "newActiveRequestsQueueLatencyMS",
            "numActiveRequests", "numQueuedRequests", "numCompletedRequests",
            "maxNumActiveRequests", "gpuMemUsage", "cpuMemUsage", "pinnedMemUsage",
            "kvCacheStats", "crossKvCacheStats", "staticBatchingStats", "inflightBatchingStats"])
        self.assertEqual(list(told["kvCacheStats"]), [
            "maxNumBlocks", "freeNumBlocks", "usedNumBlocks", "tokensPerBlock",
            "allocTotalBlocks", "allocNewBlocks", "reusedBlocks"])
        self.assertIsNone(first.static_batching_stats)
        self.assertEqual(first.inflight_batching_stats.avg_num_decoded_tokens_per_iter, 1)
        self.assertEqual(trtllm.StaticBatchingStats().empty_gen_slots, 0)
        self.assertGreater(first.kv_cache_stats.used_num_blocks, 0)
        (first, *_) = executor.get_latest_request_stats()
        (told,) = first.request_stats
        self.assertEqual(told.stage, trtllm.RequestStage.GENERATION_IN_PROGRESS)
        self.assertEqual(list(json.loads(told.to_json_str())), [
            "id", "stage", "contextPrefillPosition", "numGeneratedTokens",
            "avgNumDecodedTokensPerIter", "scheduled", "paused"])

    def test_both_names_of_a_sampling_value_change_together(self):
        for made in (trtllm.SamplingConfig(seed=1, min_tokens=2),
                     trtllm.SamplingConfig(random_seed=1, min_length=2)):
            self.assertEqual((made.seed, made.random_seed), (1, 1))
            self.assertEqual((made.min_tokens, made.min_length), (2, 2))
            made.random_seed = 5
            made.min_tokens = 3
            self.assertEqual((made.seed, made.min_length), (5, 3))
            self.assertEqual(made.to_headrace(1).random_seed, 5)
            self.assertEqual(trtllm.SamplingConfig(seed=7, random_seed=1).seed, 7)
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

    def test_a_percentage_alone_is_a_config(self):
        for percent in (0.5, np.float32(0.5), np.float64(0.5)):
            config = trtllm.ExecutorConfig(percent)
            self.assertEqual((config.gpu_weights_percent, config.max_beam_width), (0.5, 1))
        self.assertEqual(trtllm.ExecutorConfig(np.int64(2)).max_beam_width, 2)

    def test_older_names(self):
        for made in (trtllm.DebugConfig(True, False, ["x"]),
                     trtllm.DebugConfig(dump_input_tensors=True, debug_tensor_names=["x"]),
                     trtllm.DebugConfig(debug_input_tensors=True, debug_tensor_names=["x"],
                                        debug_tensors_max_iterations=0)):
            self.assertEqual((made.dump_input_tensors, made.debug_input_tensors,
                              made.dump_output_tensors), (True, True, False))
            made.dump_output_tensors = True
            self.assertTrue(made.debug_output_tensors)
            self.assertEqual(pickle.loads(pickle.dumps(made)), made)
        request = self.request()
        request.max_new_tokens = 3
        self.assertEqual((request.max_tokens, request.to_headrace().max_new_tokens), (3, 3))
        request.request_type = trtllm.RequestType.REQUEST_TYPE_CONTEXT_ONLY
        self.assertIs(request.type, request.request_type)

    def test_mistyped_names(self):
        for value, wrong, near in (
                (trtllm.ExecutorConfig(), "gpu_weight_percent", "gpu_weights_percent"),
                (trtllm.KvCacheConfig(), "free_gpu_mem_fraction", "free_gpu_memory_fraction"),
                (trtllm.SamplingConfig(), "topk", "top_k"),
                (trtllm.SamplingConfig(), "randomseed", "random_seed"),
                (trtllm.DebugConfig(), "dump_input_tensor", "dump_input_tensors"),
                (trtllm.OutputConfig(), "return_logprobs", "return_log_probs"),
                (self.request(), "stop_word", "stop_words")):
            with self.subTest(wrong):
                error = f"{type(value).__name__} has no field '{wrong}': use '{near}'"
                with self.assertRaisesRegex(AttributeError, error):
                    setattr(value, wrong, 1)
                with self.assertRaisesRegex(AttributeError, error):
                    getattr(value, wrong)

    def test_decoding_modes(self):
        modes = ("Auto", "TopK", "TopP", "TopKTopP", "BeamSearch", "Medusa", "Lookahead",
                 "ExplicitDraftTokens")
        for mode, expected in zip(modes, ("Auto", "TopK TopKorTopP", "TopP TopKorTopP",
                                          "TopK TopP TopKorTopP TopKandTopP", *modes[4:])):
            made = getattr(trtllm.DecodingMode, mode)()
            found = {name for name in (*modes, "TopKorTopP", "TopKandTopP")
                     if name != "TopKTopP" and getattr(made, f"is{name}")()}
            self.assertEqual(found, set(expected.split()))
            self.assertEqual(pickle.loads(pickle.dumps(made)), made)

    def test_an_engine_in_memory(self):
        buffer = (self.engine / "rank0.engine").read_bytes()
        config = (self.engine / "config.json").read_text(encoding="utf-8")
        decoder = trtllm.ModelType.DECODER_ONLY
        temporary = self.folder / "temporary"
        temporary.mkdir()
        with mock.patch.object(tempfile, "tempdir", str(temporary)):
            for make in (
                    lambda: trtllm.Executor(buffer, config, decoder, trtllm.ExecutorConfig(0.3)),
                    lambda: trtllm.Executor(engine_buffer=memoryview(buffer), model_type=decoder,
                                            json_config_str=config,
                                            executor_config=trtllm.ExecutorConfig(1))):
                with make() as executor:
                    (response,) = executor.await_responses(
                        executor.enqueue_request(self.request(3)))
                    self.assertEqual(response.result.output_token_ids[0][-3:], self.tokens[:3])
                    self.assertEqual(len(list(temporary.iterdir())), 1)
                del executor
                self.assertEqual(list(temporary.iterdir()), [])
            with self.assertRaisesRegex(RuntimeError, "config.json"):
                trtllm.Executor(buffer, "{", decoder, trtllm.ExecutorConfig(1))
            self.assertEqual(list(temporary.iterdir()), [])
        config = trtllm.ExecutorConfig(1)
        for args, part in (((self.engine, str(self.engine), decoder, config), "encoders"),
                           ((b"", "", b"", "", decoder, config), "encoders"),
                           ((b"", "", decoder, config, {"weight": None}), "managed weights")):
            with self.assertRaisesRegex(NotImplementedError, part):
                trtllm.Executor(*args)
        for args, part in (((self.engine, decoder), r"Executor\(\) missing .*'executor_config'"),
                           ((self.engine, decoder, {}), "use an ExecutorConfig"),
                           ((self.engine, 0, config), "use DECODER_ONLY")):
            with self.assertRaisesRegex(TypeError, part):
                trtllm.Executor(*args)
        with self.assertRaisesRegex(TypeError, "a request cannot be 'x': use a Request"):
            self.open().enqueue_request("x")

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
        with self.assertWarnsRegex(UserWarning, "is 'weight_streaming' meant"):
            tensorrt_llm.Builder().create_builder_config("float16", weight_stream=True)


if __name__ == "__main__":
    unittest.main()
