"""Forked children of programs with an open engine: they end, and hear what they cannot use."""

import subprocess
import sys
import textwrap
import unittest

from python_harness import PythonTest

COMMON = """
    import glob, multiprocessing, os, pathlib, sys, tempfile, threading, time
    import headrace
    import tensorrt_llm.bindings.executor as trtllm

    os.environ["HEADRACE_DEVICE"] = "cpu"
    engine, profile, *prompt = sys.argv[1:]
    prompt = [int(token) for token in prompt]
    parent = os.getpid()

    def check_refused(error, uses):
        for use in uses:
            try:
                use()
            except error as raised:
                assert f"made in process {parent}" in str(raised), raised
                assert "make one in this process" in str(raised), raised
            else:
                raise AssertionError("a forked child can use it")

    def wait_for(child):
        for _ in range(600):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.1)
        os.kill(child, 9)
        os.waitpid(child, 0)
        return "hangs"

    def open_llm():
        return headrace.LLM(engine, device="cpu", threads=2, profile_path=profile)
"""


class ForkTest(PythonTest):
    def run_program(self, program):
        """Runs it with the engine; what it prints last are tokens that its parent generated."""
        text = textwrap.dedent(COMMON) + textwrap.dedent(program)
        process = subprocess.run(  # Python 3.12 and later warn of forks beside threads
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", text, self.engine,
             self.profile, *map(str, self.prompt)],
            capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual((process.returncode, process.stderr), (0, ""))
        self.assertEqual(process.stdout.split("\n")[-2], str(self.tokens[:4]))
        return process.stdout

    def test_a_child_exits_and_is_told_what_it_cannot_use(self):
        self.run_program("""
            llm = open_llm()
            stream = llm.stream(prompt, max_tokens=50)
            child = os.fork()
            if child == 0:
                with llm:
                    check_refused(ValueError, [
                        lambda: llm.generate(prompt, max_tokens=1),
                        lambda: next(stream),
                        lambda: llm.executor.await_responses(1),
                        lambda: llm.executor.cancel(1),
                        lambda: llm.executor.latest_iteration_stats(),
                        lambda: llm.gpu_weights_percent,
                        lambda: setattr(llm, "gpu_weights_percent", 0.5)])
                    assert not llm.executor.can_enqueue()
                with open_llm() as own:
                    assert own.generate(prompt, max_tokens=4).token_ids[0] >= 0
                sys.exit(5)
            assert wait_for(child) == 5
            assert len(list(stream)) == 50
            print(llm.generate(prompt, max_tokens=4).token_ids)
        """)

    def test_multiprocessing_forks(self):
        self.run_program("""
            def use(executor, request):
                check_refused(RuntimeError, [lambda: executor.enqueue_request(request),
                                             lambda: executor.await_responses(1),
                                             lambda: executor.gpu_weights_percent])
                assert not executor.can_enqueue_requests()
                executor.shutdown()

            executor = trtllm.Executor(engine, trtllm.ModelType.DECODER_ONLY,
                                       trtllm.ExecutorConfig(1))
            request = trtllm.Request(input_token_ids=prompt, max_tokens=4)
            request_id = executor.enqueue_request(request)
            fork = multiprocessing.get_context("fork")
            children = [fork.Process(target=use, args=(executor, request)) for _ in range(3)]
            for child in children:
                child.start()
            for child in children:
                child.join(60)
                assert child.exitcode == 0, child.exitcode
            (response,) = executor.await_responses(request_id)
            print(response.result.output_token_ids[0][-4:])
        """)

    def test_forks_in_the_midst_of_generation(self):
        self.run_program("""
            llm = open_llm()
            going = True

            def generate():
                while going:
                    llm.generate([prompt] * 3, max_tokens=8)

            threads = [threading.Thread(target=generate) for _ in range(3)]
            for thread in threads:
                thread.start()
            for _ in range(20):
                child = os.fork()
                if child == 0:
                    check_refused(ValueError, [lambda: llm.generate(prompt, max_tokens=1)])
                    sys.exit()
                assert wait_for(child) == 0
            going = False
            for thread in threads:
                thread.join()
            print(llm.generate(prompt, max_tokens=4).token_ids)
        """)

    def test_an_engine_in_memory_stays_with_the_parent(self):
        self.run_program("""
            tempfile.tempdir = tempfile.mkdtemp(dir=os.path.dirname(profile))
            executor = trtllm.Executor(
                (pathlib.Path(engine) / "rank0.engine").read_bytes(),
                (pathlib.Path(engine) / "config.json").read_text(encoding="utf-8"),
                trtllm.ModelType.DECODER_ONLY, trtllm.ExecutorConfig(0.5))
            child = os.fork()
            if child == 0:
                sys.exit()
            assert wait_for(child) == 0
            assert len(glob.glob(tempfile.tempdir + "/*/rank0.engine")) == 1
            request = trtllm.Request(input_token_ids=prompt, max_tokens=4)
            (response,) = executor.await_responses(executor.enqueue_request(request))
            print(response.result.output_token_ids[0][-4:])
        """)

    def test_locks_that_are_held_by_another_thread(self):
        self.run_program("""
            llm = open_llm()
            stream = llm.stream(prompt, max_tokens=4)
            locked, forked = threading.Event(), threading.Event()

            def lock():
                with llm._mailbox._changed:
                    locked.set()
                    forked.wait()

            thread = threading.Thread(target=lock)
            thread.start()
            locked.wait()
            child = os.fork()
            if child == 0:
                stream.close()
                check_refused(ValueError, [lambda: llm.generate(prompt, max_tokens=1)])
                os._exit(0)
            forked.set()
            assert wait_for(child) == 0
            thread.join()
            print([chunk.token_ids[0] for chunk in stream])
        """)


if __name__ == "__main__":
    unittest.main()
