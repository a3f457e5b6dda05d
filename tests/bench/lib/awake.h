/* Keeps the processors from sleeping. */
#pragma once

/* Starts a thread for each processor that takes only idle time (SCHED_IDLE) and gives that back at
 * once; ends the process with a message if it cannot. A virtual processor that sleeps is woken
 * after milliseconds at times, and with cold caches: what a server that has more to do is not
 * charged with. Main thread; once until bench_let_sleep. */
void bench_stay_awake(void);

/* Ends those threads. */
void bench_let_sleep(void);
