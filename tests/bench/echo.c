/* links: tests/bench/lib/load_net.c tests/bench/lib/load_target.c
 */
/* An echo for tunnels that others make: prints its port on 127.0.0.1, and serves until its standard
 * input ends. One thread for all connections; no messages longer than an exchange of `load`.
 */
#include "tests/bench/lib/load.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	static struct load l = {.work = LOAD_TUNNELS};
	pthread_t target;
	char line[64];

	load_target_start(&l);
	if (pthread_create(&target, NULL, load_target_run, &l) != 0) {
		load_die("thread");
	}
	printf("%u\n", (unsigned)l.target);
	fflush(stdout);
	while (read(STDIN_FILENO, line, sizeof(line)) > 0) {
	}
	l.over = true;
	pthread_join(target, NULL);
	return 0;
}
