"""headrace.LLM: text in, text out."""

import os
import signal
import threading
import unittest

import numpy as np

import headrace
from python_harness import TEXT_VOCABULARY, PythonTest


class LlmTest(PythonTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.text_engine = cls.make_text_engine()
        cls.llm = headrace.LLM(cls.text_engine, gpu_weights_percent=0.5, **cls.options)
        cls.addClassCleanup(cls.llm.shutdown)
        cls.long = cls.llm.generate("Once upon a time", max_tokens=24, ignore_eos=True)

    def test_text_is_that_of_the_tokens(self):
        self.assertEqual(self.long.prompt, "Once upon a time")
        self.assertEqual(self.long.prompt_token_ids, self.llm.tokenizer.encode("Once upon a time"))
        self.assertEqual(len(self.long.token_ids), 24)
        self.assertEqual(self.long.finish_reason, headrace.FinishReason.LENGTH)
        self.assertEqual(self.long.text, self.llm.tokenizer.decode(self.long.token_ids))

    def test_one_prompt_or_several_as_text_or_ids(self):
        ids = self.long.prompt_token_ids
        params = headrace.SamplingParams(max_tokens=24, ignore_eos=True)
        for prompt in (ids, tuple(ids), np.array(ids)):
            self.assertEqual(self.llm.generate(prompt, params).token_ids, self.long.token_ids)
        outputs = self.llm.generate(["Once upon a time", ids], params, gpu_weights_percent=0.1)
        self.assertEqual([one.text for one in outputs], [self.long.text] * 2)
        self.assertEqual(self.llm.gpu_weights_percent, 0.1)
        self.assertEqual(self.llm.generate([], params), [])

    def test_streams_join_to_the_whole(self):
        texts = {0: "", 1: ""}
        reasons = []
        for chunk in self.llm.generate(["Once upon a time", "A"], max_tokens=24, ignore_eos=True,
                                       stream=True):
            texts[chunk.prompt_index] += chunk.text
            reasons += [chunk.finish_reason] if chunk.finish_reason else []
        self.assertEqual(texts[0], self.long.text)
        self.assertEqual(reasons, [headrace.FinishReason.LENGTH] * 2)

    def test_a_stop_text_ends_a_text_before_it(self):
        stop = self.llm.tokenizer.decode(self.long.token_ids[8:10])
        output = self.llm.generate("Once upon a time", max_tokens=24, ignore_eos=True, stop=[stop])
        self.assertEqual(output.finish_reason, headrace.FinishReason.STOPPED)
        self.assertEqual(output.text, self.long.text[:self.long.text.index(stop)])
        self.assertLess(len(output.token_ids), 24)
        streamed = "".join(chunk.text for chunk in self.llm.stream(
            "Once upon a time", max_tokens=24, ignore_eos=True, stop=[stop]))
        self.assertEqual(streamed, output.text)

    def test_one_stop_text_needs_no_list(self):
        ask = dict(max_tokens=24, ignore_eos=True)
        stop = self.llm.tokenizer.decode(self.long.token_ids[8:10])
        self.assertGreater(len(stop), 1)
        self.assertEqual(self.llm.generate("Once upon a time", stop=stop, **ask),
                         self.llm.generate("Once upon a time", stop=[stop], **ask))
        absent = "@@" + stop[::-1]  # whose letters occur
        self.assertEqual(self.llm.generate("Once upon a time", stop=absent, **ask).text,
                         self.long.text)
        for name, values in (("stop", (5, [5], b"ab")),
                             ("stop_token_ids", (5, "12", [1.5], ["1"]))):
            for value in values:
                with self.assertRaisesRegex(TypeError, rf"\[llm\] {name} cannot be"):
                    self.llm.generate("A", **{name: value})

    def test_a_stop_token_is_not_shown(self):
        token = self.long.token_ids[5]
        first = self.long.token_ids.index(token)
        output = self.llm.generate("Once upon a time", max_tokens=24, ignore_eos=True,
                                   stop_token_ids=[token])
        self.assertEqual(output.token_ids, self.long.token_ids[:first + 1])
        self.assertEqual(output.text, self.llm.tokenizer.decode(self.long.token_ids[:first]))
        self.assertEqual(output.finish_reason, headrace.FinishReason.END_ID)

    def test_several_sequences_with_numbers(self):
        output = self.llm.generate("A", max_tokens=5, ignore_eos=True, num_return_sequences=3,
                                   top_k=100, log_probs=True, generation_logits=True)
        self.assertEqual(len(output.completions), 3)
        self.assertEqual(len({tuple(one.token_ids) for one in output.completions}), 3)
        for completion in output.completions:
            self.assertEqual(len(completion.log_probs), 5)
            self.assertAlmostEqual(sum(completion.log_probs), completion.cum_log_prob, places=3)
            self.assertEqual(completion.generation_logits.shape, (5, TEXT_VOCABULARY))

    def test_beams_that_end_early_have_as_many_logits_as_tokens(self):
        with headrace.LLM(self.engine, max_beam_width=4, **self.options) as llm:
            wanted = dict(max_tokens=8, beam_width=4, generation_logits=True)
            ends = [llm.generate(self.prompt, **wanted).token_ids[2]]
            completions = llm.generate(self.prompt, stop_token_ids=ends, **wanted).completions
        lengths = [len(completion.token_ids) for completion in completions]
        self.assertLess(min(lengths), max(lengths))
        for completion in completions:
            self.assertEqual(completion.generation_logits.shape,
                             (len(completion.token_ids), self.context_logits.shape[1]))

    def test_a_stream_that_is_left_is_cancelled(self):
        stream = self.llm.stream("A", max_tokens=200, ignore_eos=True)
        next(stream)
        stream.close()
        self.llm.generate("A", max_tokens=1)
        self.llm.executor.latest_iteration_stats()
        self.llm.generate("A", max_tokens=2, ignore_eos=True)
        self.assertEqual(self.llm.executor.latest_iteration_stats()[-1].active_requests, 0)

    def test_beams_that_a_stop_text_cuts_have_numbers_of_what_is_left(self):
        wanted = dict(max_tokens=8, beam_width=2, ignore_eos=True, log_probs=True,
                      generation_logits=True)
        with headrace.LLM(self.text_engine, max_beam_width=2, **self.options) as llm:
            whole = llm.generate("A", **wanted).completions[0]
            stop = llm.tokenizer.decode(whole.token_ids[2:4])
            cut = llm.generate("A", stop=stop, **wanted).completions[0]
        count = len(cut.token_ids)
        self.assertLess(count, 8)
        self.assertEqual(cut.token_ids, whole.token_ids[:count])
        self.assertEqual(cut.log_probs, whole.log_probs[:count])
        self.assertAlmostEqual(cut.cum_log_prob, sum(cut.log_probs), places=5)
        np.testing.assert_array_equal(cut.generation_logits, whole.generation_logits[:count])

    def test_a_stream_that_is_dropped_unread_is_cancelled(self):
        self.llm.stream("A", max_tokens=200, ignore_eos=True)
        self.llm.generate(["A"] * 3, max_tokens=2, ignore_eos=True)
        self.assertEqual(self.llm._mailbox._boxes, {})
        self.llm.generate("A", max_tokens=2, ignore_eos=True)
        self.assertEqual(self.llm.executor.latest_iteration_stats()[-1].active_requests, 0)

    def test_shutdown_ends_what_runs(self):
        running = threading.Event()
        go = threading.Event()
        self.addCleanup(go.set)

        def hold(_):
            running.set()
            go.wait()

        llm = headrace.LLM(self.engine, logits_processors={"hold": hold}, **self.options)
        stream = llm.stream(self.prompt, max_tokens=100)
        next(stream)
        errors = []

        def generate():
            try:
                llm.generate(self.prompt, max_tokens=100, logits_processor="hold")
            except ValueError as error:
                errors.append(str(error))

        threads = [threading.Thread(target=generate) for _ in range(3)]
        for thread in threads:
            thread.start()
        running.wait()
        ending = threading.Thread(target=llm.shutdown)
        ending.start()
        while llm.executor.can_enqueue():
            pass
        go.set()
        for thread in (*threads, ending):
            thread.join()
        self.assertEqual(len(errors), 3)
        for error in errors:
            self.assertRegex(error, "Shutdown called: the request was not finished|make another")
        stream.close()
        with self.assertRaisesRegex(ValueError, "Shutdown called"):
            llm.generate(self.prompt)

    def test_threads_share_one_engine(self):
        texts = [None] * 6

        def work(index):
            texts[index] = self.llm.generate("Once upon a time", max_tokens=24,
                                             ignore_eos=True).text

        threads = [threading.Thread(target=work, args=(index,)) for index in range(len(texts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(texts, [self.long.text] * 6)

    def test_ctrl_c_ends_generate_and_its_requests(self):
        timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with self.assertRaises(KeyboardInterrupt):
            for _ in range(1000):
                self.llm.generate(["A"] * 8, max_tokens=200, ignore_eos=True)
        self.test_threads_share_one_engine()

    def test_a_processor_that_generates_fails(self):
        def generate(_):
            llm.generate([1], max_tokens=1)

        with headrace.LLM(self.engine, logits_processors={"generate": generate},
                          **self.options) as llm:
            with self.assertRaisesRegex(ValueError, "in a logits processor"):
                llm.generate(self.prompt, max_tokens=3, logits_processor="generate")
            output = llm.generate(self.prompt, max_tokens=4)
            self.assertEqual(output.token_ids, self.tokens[:4])

    def test_refusals(self):
        with self.assertRaisesRegex(ValueError, "asks for 1000 new tokens|1000 more"):
            self.llm.generate("A", max_tokens=1000)
        with self.assertRaisesRegex(ValueError, "stream needs beam_width 1"):
            self.llm.stream("A", beam_width=2)
        with self.assertRaises(TypeError):
            self.llm.generate("A", max_token=3)
        for prompts in ({1, 2}, (ids for ids in [[1]]), b"A", {"A": 1}, 5):
            with self.assertRaisesRegex(TypeError, r"\[llm\] prompts cannot be .*: use a text"):
                self.llm.generate(prompts)
        with self.assertRaisesRegex(TypeError, r"\[llm\] params cannot be .*: use SamplingParams"):
            self.llm.generate("A", {"max_tokens": 2})
        with self.assertRaisesRegex(TypeError, "gpu_weights_percent cannot be set to 'auto'"):
            self.llm.generate("A", gpu_weights_percent="auto")
        with headrace.LLM(self.engine, **self.options) as llm:
            with self.assertRaisesRegex(ValueError, "needs a tokenizer"):
                llm.generate("A")
            output = llm.generate(self.prompt, max_tokens=4)
            self.assertEqual((output.token_ids, output.text), (self.tokens[:4], None))

    def test_tokenizer(self):
        tokenizer = self.llm.tokenizer
        ids = tokenizer.encode("Grüße, 世界")
        self.assertEqual(tokenizer.decode(np.array(ids)), "Grüße, 世界")
        detokenizer = headrace.Detokenizer(tokenizer)
        pieces = [detokenizer.push(token) for token in ids] + [detokenizer.finish()]
        self.assertEqual("".join(pieces), "Grüße, 世界")
        self.assertEqual(tokenizer.find(tokenizer.piece(ids[0])), ids[0])
        self.assertIsNone(tokenizer.find("no such piece"))
        with self.assertRaises(ValueError):
            tokenizer.decode([1 << 30])
        with self.assertRaisesRegex(UnicodeEncodeError, "surrogates not allowed"):
            self.llm.generate("a\ud800b")

    def test_a_conversation_goes_through_the_models_template(self):
        tokenizer = self.llm.tokenizer
        text = tokenizer.apply_chat_template([("user", "Hello")])
        self.assertEqual(text, "user: Hello\nassistant:")
        output = self.llm.chat([{"role": "user", "content": "Hello"}], max_tokens=3,
                               ignore_eos=True)
        self.assertEqual(output.prompt_token_ids, tokenizer.encode(text, add_special_tokens=False))
        self.assertEqual(len(output.token_ids), 3)
        for messages, part in (([{"role": "user", "content": None}], "content of message 0 .* None"),
                               ([{"role": "user", "content": "A"}, {"content": "B"}],
                                "role of message 1 .* None"),
                               ([{"role": "user", "content": [{"type": "text"}]}], "use a text"),
                               ([("user", "Hello")], "role of message 0"),
                               ("Hello", "messages cannot be 'Hello': use a list")):
            with self.assertRaisesRegex(TypeError, r"\[llm\] .*" + part):
                self.llm.chat(messages)


if __name__ == "__main__":
    unittest.main()
