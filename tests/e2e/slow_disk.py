"""crashfs, a FUSE disk in memory: slow, stalled or without power on demand."""
import atexit
import os
import subprocess

import lib


class Disk:
    """A crashfs mounted in a directory of its own."""

    def __init__(self, crashfs, folder, *options):
        self.path = os.path.join(folder, "disk")
        os.makedirs(self.path)
        # Not lib.spawn(): it ends, and unmounts, when its standard input does, thus with the driver.
        self.process = subprocess.Popen([crashfs, self.path, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "mounted\n":
            lib.skip(f"cannot mount a FUSE disk here: {self.process.stderr.read().strip()}")
        atexit.register(self.close)

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def freeze(self):
        return self.tell("freeze")

    def cut(self, mood, seed=0):
        return self.tell(f"cut {mood} {seed}")

    def stall(self, milliseconds):
        return self.tell(f"stall {milliseconds}")

    def syncs(self):
        return int(self.tell("count"))

    def close(self):
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait(timeout=20)
