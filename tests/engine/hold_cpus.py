"""Another job on a Ray cluster: `hold_cpus.py ADDRESS CPUS`; an actor holds CPUs until this is told anything."""

import sys

import ray


class Holder:
    """Holds what it claims."""

    def there(self) -> None:
        """Answers as soon as it runs."""


if __name__ == "__main__":
    address, cpus = sys.argv[1], int(sys.argv[2])
    ray.init(address, log_to_driver=False, logging_level="ERROR")
    holder = ray.remote(num_cpus=cpus)(Holder).remote()
    ray.get(holder.there.remote())
    print("held", flush=True)
    sys.stdin.readline()
    ray.kill(holder)
    ray.shutdown()
