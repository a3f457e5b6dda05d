#include "tests/bench/lib/awake.h"

#include "tests/bench/lib/side.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#define PROCESSORS_MAX 64

static _Atomic bool may_sleep;
static pthread_t threads[PROCESSORS_MAX];
static long count;

static void *stay_awake(void *unused)
{
	const struct sched_param none = {0};

	(void)unused;
	if (sched_setscheduler(0, SCHED_IDLE, &none) != 0) {
		bench_die("idle priority", -errno);
	}
	while (!may_sleep) {
		(void)sched_yield(); /* cannot fail on Linux */
	}
	return NULL;
}

void bench_stay_awake(void)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	int err;

	may_sleep = false;
	processors = processors < PROCESSORS_MAX ? processors : PROCESSORS_MAX;
	for (count = 0; count < processors; count++) {
		err = pthread_create(&threads[count], NULL, stay_awake, NULL);
		if (err != 0) {
			bench_die("threads", -err);
		}
	}
}

void bench_let_sleep(void)
{
	may_sleep = true;
	for (long i = 0; i < count; i++) {
		(void)pthread_join(threads[i], NULL); /* they were started here, and end */
	}
	count = 0;
}
