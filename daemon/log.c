#include "daemon/log.h"

#include "daemon/log_budget.h"
#include "daemon/log_ring.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BATCH_BYTES (64 * 1024)
#define STOP_S      1 /* for a reader that hangs */

/* The one piece of process-wide state of the daemon besides libuv's: every thread logs to the same
 * standard error. */
static _Atomic int current_level = MT_LOG_INFO;
static _Atomic bool current_json = true;
static _Atomic bool with_priority;
static _Atomic uint64_t dropped;
static _Atomic uint32_t unwritten; /* of `dropped`: no room, and not told yet */

enum rest {
	AWAKE,
	WAITS_FOR_LINE,
	WAITS_FOR_SECOND, /* or a line: there is something to tell after this second */
};

/* NULL: lines are written where they arise. */
static _Atomic(struct mt_log_ring *) queue;
static _Atomic int rest;
static _Atomic bool stopping;
static sem_t wake;
static pthread_t thread;

static const char *priority(enum mt_log_level level)
{
	static const char *const texts[MT_LOG_LEVELS] = {"<3>", "<4>", "<6>", "<7>"};

	return atomic_load_explicit(&with_priority, memory_order_relaxed) ? texts[level] : "";
}

static size_t format(char line[MT_LOG_LINE_MAX], enum mt_log_level level, const char *event,
	const struct timespec *now, const struct mt_log_field *fields, size_t count)
{
	const char *prefix = priority(level);
	size_t len = 0;

	for (; prefix[len] != '\0'; len++) {
		line[len] = prefix[len];
	}
	return len + mt_log_line_format(line + len, MT_LOG_LINE_MAX - len,
			     atomic_load_explicit(&current_json, memory_order_relaxed),
			     (int64_t)now->tv_sec * 1000 + now->tv_nsec / 1000000, level, event,
			     fields, count);
}

/* Without the thread there is little to write. Writable means room for a page, which a line never
 * exceeds. */
static bool write_now(const char *text, size_t len)
{
	struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};

	return poll(&out, 1, 0) == 1 && (out.revents & POLLOUT) != 0 &&
	       write(STDERR_FILENO, text, len) >= 0;
}

/* Wakes the thread when it rests in one of the ways that `mask` has a bit for. */
static void wake_from(unsigned mask)
{
	/* Both sides write `rest` before they look: one of them sees what the other did. */
	int old = atomic_fetch_or(&rest, 0);

	if ((mask & (1u << old)) != 0 && atomic_compare_exchange_strong(&rest, &old, AWAKE)) {
		(void)sem_post(&wake); /* fails only beyond SEM_VALUE_MAX */
	}
}

static void emit(const char *text, size_t len)
{
	struct mt_log_ring *ring = atomic_load_explicit(&queue, memory_order_acquire);

	if (ring == NULL ? !write_now(text, len) : !mt_log_ring_put(ring, text, len)) {
		atomic_fetch_add_explicit(&dropped, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&unwritten, 1, memory_order_relaxed);
		return;
	}
	if (ring != NULL) {
		wake_from(1u << WAITS_FOR_LINE | 1u << WAITS_FOR_SECOND);
	}
}

static void write_line(enum mt_log_level level, const char *event, uint32_t per_second,
	const struct mt_log_field *fields, size_t count)
{
	const int saved = errno;
	char line[MT_LOG_LINE_MAX];
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
	if (mt_log_budget_take(event, (uint32_t)now.tv_sec, per_second)) {
		emit(line, format(line, level, event, &now, fields, count));
	} else {
		atomic_fetch_add_explicit(&dropped, 1, memory_order_relaxed);
		if (atomic_load_explicit(&queue, memory_order_acquire) != NULL) {
			wake_from(1u << WAITS_FOR_LINE);
		}
	}
	errno = saved;
}

void mt_log_write(
	enum mt_log_level level, const char *event, const struct mt_log_field *fields, size_t count)
{
	if (mt_log_enabled(level)) {
		write_line(level, event, MT_LOG_PER_SECOND, fields, count);
	}
}

void mt_log_record(const char *event, const struct mt_log_field *fields, size_t count)
{
	write_line(MT_LOG_INFO, event, MT_LOG_RECORDS_PER_SECOND, fields, count);
}

/* Waits for the reader as long as it takes. False: nobody reads any more. */
static bool write_all(const char *text, size_t len)
{
	while (len > 0) {
		ssize_t put = write(STDERR_FILENO, text, len);

		if (put >= 0) {
			text += put;
			len -= (size_t)put;
		} else if (errno == EAGAIN) {
			struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};

			(void)poll(&out, 1, -1); /* the write tells */
		} else if (errno != EINTR) {
			return false;
		}
	}
	return true;
}

/* The thread's own lines do not go through the queue. */
static void tell_own(const char *event, const struct mt_log_field *fields, size_t count)
{
	char line[MT_LOG_LINE_MAX];
	struct timespec now;
	size_t len;

	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
	len = format(line, MT_LOG_WARN, event, &now, fields, count);
	(void)write_all(line, len); /* nobody is there to be told */
}

static void tell_left_out(const char *kind, uint32_t lines, uint32_t seconds)
{
	const struct mt_log_field fields[] = {MT_LOG_TEXT("of", kind),
		MT_LOG_NUMBER("lines", lines), MT_LOG_NUMBER("seconds", seconds)};

	tell_own("log_suppressed", fields, 3);
}

static void tell_missing(void)
{
	const uint32_t lines = atomic_exchange_explicit(&unwritten, 0, memory_order_relaxed);
	struct timespec now;

	if (lines > 0) {
		tell_own("log_dropped",
			(const struct mt_log_field[]){MT_LOG_NUMBER("lines", lines)}, 1);
	}
	if (mt_log_budget_has_report()) {
		(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
		mt_log_budget_report((uint32_t)now.tv_sec, tell_left_out);
	}
}

/* One batch; false when there was nothing. */
static bool write_batch(struct mt_log_ring *ring)
{
	static char batch[BATCH_BYTES]; /* the thread's alone */
	uint32_t lines = 0;
	size_t len = 0;
	size_t got;

	while ((got = mt_log_ring_take(ring, batch + len, sizeof(batch) - len)) != 0 &&
		got != SIZE_MAX) {
		len += got;
		lines++;
	}
	if (len > 0 && !write_all(batch, len)) {
		atomic_fetch_add_explicit(&dropped, lines, memory_order_relaxed);
	}
	return len > 0;
}

/* Until a line comes; while lines are left out, for at most a second. */
static void sleep_until_line(struct mt_log_ring *ring)
{
	struct timespec until;

	bool timed = mt_log_budget_has_report();

	(void)atomic_exchange(&rest, timed ? WAITS_FOR_SECOND : WAITS_FOR_LINE); /* see wake_from */
	if (mt_log_ring_has_text(ring) || atomic_load(&stopping) ||
		timed != mt_log_budget_has_report()) {
		atomic_store(&rest, AWAKE);
		return; /* a wake-up that came meanwhile is one too many, which does no harm */
	}
	if (timed) {
		(void)clock_gettime(CLOCK_REALTIME, &until); /* cannot fail for this clock */
		until.tv_sec++;
		(void)sem_timedwait(&wake, &until); /* either way there may be work */
	} else {
		(void)sem_wait(&wake); /* EINTR: the same */
	}
}

static void *run(void *user)
{
	struct mt_log_ring *ring = user;

	for (;;) {
		if (write_batch(ring)) {
			tell_missing();
		} else if (atomic_load(&stopping)) {
			tell_missing();
			return NULL;
		} else {
			tell_missing();
			sleep_until_line(ring);
		}
	}
}

/* Whether standard error is the stream that systemd has made for it. */
static bool is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char text[48];
	struct stat st;

	if (stream == NULL || fstat(STDERR_FILENO, &st) != 0) {
		return false;
	}
	(void)snprintf(text, sizeof(text), "%ju:%ju", (uintmax_t)st.st_dev,
		(uintmax_t)st.st_ino); /* always fits */
	return strcmp(stream, text) == 0;
}

int mt_log_start(void)
{
	struct mt_log_ring *ring = mt_log_ring_new(MT_LOG_QUEUE_BYTES);
	sigset_t all, old;
	int rv;

	atomic_store_explicit(&with_priority, is_journal(), memory_order_relaxed);
	if (ring == NULL) {
		return -ENOMEM;
	}
	atomic_store(&stopping, false);
	(void)sem_init(&wake, 0, 0); /* cannot fail with these values */
	/* Signals are the main thread's. */
	(void)sigfillset(&all);                         /* always succeeds */
	(void)pthread_sigmask(SIG_SETMASK, &all, &old); /* fails only for a bad first argument */
	rv = -pthread_create(&thread, NULL, run, ring);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL); /* the same */
	if (rv != 0) {
		mt_log_ring_free(ring);
		return rv;
	}
	(void)pthread_setname_np(thread, "log"); /* for people only */
	atomic_store_explicit(&queue, ring, memory_order_release);
	return 0;
}

void mt_log_stop(void)
{
	struct mt_log_ring *ring = atomic_load(&queue);
	struct timespec until;

	if (ring == NULL) {
		return;
	}
	atomic_store(&stopping, true);
	(void)sem_post(&wake);                       /* fails only beyond SEM_VALUE_MAX */
	(void)clock_gettime(CLOCK_REALTIME, &until); /* cannot fail for this clock */
	until.tv_sec += STOP_S;
	if (pthread_timedjoin_np(thread, NULL, &until) != 0) {
		return; /* hangs in its reader: it keeps the queue */
	}
	atomic_store(&queue, NULL);
	mt_log_ring_free(ring);
	(void)sem_destroy(&wake); /* nobody waits */
}

bool mt_log_enabled(enum mt_log_level level)
{
	return (int)level <= atomic_load_explicit(&current_level, memory_order_relaxed);
}

void mt_log_configure(const char *level, const char *format_name)
{
	for (int i = 0; i < MT_LOG_LEVELS; i++) {
		if (strcmp(level, mt_log_level_text((enum mt_log_level)i)) == 0) {
			atomic_store_explicit(&current_level, i, memory_order_relaxed);
		}
	}
	atomic_store_explicit(
		&current_json, strcmp(format_name, "json") == 0, memory_order_relaxed);
}

uint64_t mt_log_dropped(void)
{
	return atomic_load_explicit(&dropped, memory_order_relaxed);
}
