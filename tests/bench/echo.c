/* links: tests/bench/lib/load_net.c tests/bench/lib/load_target.c
 */
/* An echo for tunnels that others make: prints its port on 127.0.0.1, and serves until its standard
 * input ends. One thread for all connections; no messages longer than an exchange of `load`.
 */
#include "tests/bench/lib/load.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	static struct load l = {.work = LOAD_TUNNELS};
	pthread_t target;
	char line[64];

	load_target_start(&l);
	errno = pthread_create(&target, NULL, load_target_run, &l);
	if (errno != 0) {
		load_die("thread");
	}
	if (printf("%u\n", (unsigned)l.target) < 0 || fflush(stdout) != 0) {
		load_die("standard output");
	}
	while (read(STDIN_FILENO, line, sizeof(line)) > 0) {
	}
	l.over = true;
	errno = pthread_join(target, NULL);
	if (errno != 0) {
		load_die("the end of the thread");
	}
	return 0;
}
