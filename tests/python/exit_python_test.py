"""How programs end that have an open engine, whatever their threads are doing."""

import subprocess
import sys
import textwrap
import unittest

from python_harness import PythonTest

COMMON = """
    import os, signal, sys, threading, time
    import headrace

    engine, profile = sys.argv[1:]
    config = headrace.ExecutorConfig(device="cpu", threads=2, profile_path=profile)

    def collect(executor, arrived):
        try:
            while True:
                for response in executor.await_responses():
                    arrived.set()
        except ValueError:  # shut down
            pass

    def open_with_collector():
        executor, arrived = headrace.Executor(engine, config), threading.Event()
        threading.Thread(target=collect, args=(executor, arrived), daemon=True).start()
        executor.enqueue(headrace.Request([1], 3))
        arrived.wait()
        return executor
"""


class ExitTest(PythonTest):
    def run_program(self, program, times=1):
        text = textwrap.dedent(COMMON) + textwrap.dedent(program)
        for _ in range(times):
            process = subprocess.run([sys.executable, "-c", text, self.engine, self.profile],
                                     capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual((process.returncode, process.stderr), (0, ""))

    def test_a_program_that_forgets_to_shut_down_ends(self):
        self.run_program("""
            def slow(step):
                step.logits[:, 5] = 1e9

            config.logits_processors = {"slow": slow}
            executor = headrace.Executor(engine, config)
            executor.enqueue(headrace.Request([1], 200, logits_processor="slow"))
        """)

    # Each of these aborted in every second run or so.
    def test_a_thread_may_wait_when_the_program_ends(self):
        self.run_program("executor = open_with_collector()", times=6)

    def test_a_thread_may_wait_when_the_executor_is_shut_down_last(self):
        self.run_program("open_with_collector().shutdown()", times=6)

    def test_threads_may_generate_when_the_program_ends(self):
        self.run_program("""
            llm = headrace.LLM(engine, device="cpu", threads=2, profile_path=profile)

            def generate():
                try:
                    while True:
                        llm.generate([1, 2, 3], max_tokens=20)
                except ValueError:  # shut down
                    pass

            for _ in range(3):
                threading.Thread(target=generate, daemon=True).start()
            time.sleep(0.2)
        """, times=6)

    def test_a_signal_handler_may_shut_down_what_is_waited_for(self):
        self.run_program("""
            executor = headrace.Executor(engine, config)
            signal.signal(signal.SIGALRM, lambda *_: executor.shutdown())
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            try:
                executor.await_responses()
            except ValueError as error:
                assert "Shutdown called" in str(error), error
            else:
                raise AssertionError("nothing was asked for")
        """)


if __name__ == "__main__":
    unittest.main()
