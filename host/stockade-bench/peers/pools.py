"""Python's process pools: `pools.py POOL WORKERS` answers questions on stdin.

    ready 0     whether the pool is there and all its workers run
    map1 N      items a second through one ordered map of N, chunks of 1
    map64 N     the same in chunks of 64

An answer is `ok NUMBER` or `error WHY`, a line each. The tasks are functions of
this file, run natively and in no sandbox: `x + 1` of a small number.
"""

import sys
import time


def increment(x):
    return x + 1


def nap(seconds):
    time.sleep(seconds)


class Asyncpal:
    def __init__(self, workers):
        from asyncpal import ProcessPool
        self.pool = ProcessPool(workers)

    def map(self, function, items, chunk):
        return list(self.pool.map_all(function, items, chunk_size=chunk))

    def close(self):
        self.pool.shutdown()


class Futures:
    def __init__(self, workers):
        from concurrent.futures import ProcessPoolExecutor
        self.pool = ProcessPoolExecutor(workers)

    def map(self, function, items, chunk):
        return list(self.pool.map(function, items, chunksize=chunk))

    def close(self):
        self.pool.shutdown(wait=True)


class Loky(Futures):
    def __init__(self, workers):
        from loky import ProcessPoolExecutor
        self.pool = ProcessPoolExecutor(workers)


class Multiprocessing:
    def __init__(self, workers):
        from multiprocessing import Pool
        self.pool = Pool(workers)

    def map(self, function, items, chunk):
        return self.pool.map(function, items, chunksize=chunk)

    def close(self):
        self.pool.close()
        self.pool.join()


class Pebble:
    def __init__(self, workers):
        from pebble import ProcessPool
        self.pool = ProcessPool(workers)

    def map(self, function, items, chunk):
        return list(self.pool.map(function, items, chunksize=chunk).result())

    def close(self):
        self.pool.close()
        self.pool.join()


POOLS = {
    "asyncpal": Asyncpal,
    "concurrent.futures": Futures,
    "loky": Loky,
    "multiprocessing.Pool": Multiprocessing,
    "pebble": Pebble,
}


def items_per_second(pool, count, chunk):
    items = range(count)
    started = time.perf_counter()
    results = pool.map(increment, items, chunk)
    seconds = time.perf_counter() - started
    if results != list(range(1, count + 1)):
        raise ValueError("the pool gave something else")
    return count / seconds


def answer(pool, workers, question, count):
    if question == "ready":
        # Naps make pools that start workers on demand start all of them.
        pool.map(nap, [0.05] * (4 * workers), 1)
        return 1
    if question == "map1":
        return items_per_second(pool, count, 1)
    if question == "map64":
        return items_per_second(pool, count, 64)
    raise ValueError("no question is called " + question)


def main():
    name, workers = sys.argv[1], int(sys.argv[2])
    pool, problem = None, None
    try:
        pool = POOLS[name](workers)
    except Exception as error:
        problem = error
    for line in sys.stdin:
        try:
            if problem is not None:
                raise problem
            question, amount = line.split()
            print("ok", answer(pool, workers, question, int(float(amount))), flush=True)
        except Exception as error:
            print("error", repr(error).replace("\n", " "), flush=True)
    if pool is not None:
        pool.close()


if __name__ == "__main__":
    main()
