"""kill -9 under load, round after round, on one data directory: every acknowledged write is there, no transaction is
there by half, revisions go on. CLEAT_TEST_FULL=1 runs the rounds of a release."""
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lib

ROUNDS = 200 if lib.FULL else 20
WRITERS = 32


def run(load, command, server, state):
    """One run of crash_load; its last line."""
    result = subprocess.run([load, command, "--endpoint", server.endpoint, "--state", state],
                            stdout=subprocess.PIPE, text=True, timeout=120)
    return result.returncode, result.stdout.strip()


def kill_round(load, server, state, rng):
    """Writers run until the server is killed under them; how many writes it acknowledged."""
    writers = lib.spawn([load, "write", "--endpoint", server.endpoint, "--state", state, "--writers", str(WRITERS)],
                        stdout=subprocess.PIPE, text=True)
    time.sleep(rng.uniform(0.02, 0.6))  # the moment of the crash is the random input of this test
    server.kill()
    output, _ = writers.communicate(timeout=120)
    return int(output.split()[-1])


def crash_rounds(args, backend, seed):
    rng = random.Random(seed)
    folder = lib.temp_dir(f"crash-{backend}")
    state = os.path.join(folder, "state")
    server = lib.Server(args.cleat, os.path.join(folder, "data"), flags=[f"--backend={backend}"])
    acknowledged, slowest_start = 0, 0.0
    for number in range(1, ROUNDS + 1):
        began = time.monotonic()
        server.start()
        slowest_start = max(slowest_start, time.monotonic() - began)
        if number > 1:
            code, text = run(args.load, "check", server, state)
            if code != 0:
                print(f"{backend}, seed {seed}, before round {number}:\n{text}\nlog: {server.log_path}")
                return False
        acknowledged += kill_round(args.load, server, state, rng)
    server.start()
    code, text = run(args.load, "check", server, state)
    stopped = server.stop()
    print(f"{backend}: {ROUNDS} kills, {acknowledged} writes acknowledged, slowest start {slowest_start:.2f} s, "
          f"exit code at the end {stopped}; {text}")
    flushed = b"could not flush" not in server.log()
    return code == 0 and stopped == 0 and flushed and acknowledged > ROUNDS * WRITERS


def main():
    parser = lib.arguments(__doc__, cleat="build/release/server/cleat", load="build/release/tests/e2e/crash_load")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    results = [crash_rounds(args, backend, args.seed) for backend in ("lmdb", "sqlite")]
    sys.exit(0 if all(results) else 1)


main()
