#include "ctl/ctl.h"
#include "ctl/screen.h"
#include "ctl/top_screen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define INTERVAL_MS 1000

/* What would be told on standard error belongs into the picture. */
struct capture {
	int saved; /* standard error as it was; -1: not captured */
	int memory;
	char text[256];
};

struct top {
	const struct mt_ctl *ctl;
	struct mt_screen *screen;
	struct capture errors;
	struct mt_top_sample now;
	struct mt_top_sample before;
	struct mt_top_view view;
	size_t rows;
};

static double seconds(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock */
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void capture_start(struct capture *c)
{
	c->memory = memfd_create("messages", MFD_CLOEXEC);
	c->saved = c->memory >= 0 ? fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3) : -1;
	if (c->saved >= 0 && dup2(c->memory, STDERR_FILENO) < 0) {
		(void)close(c->saved); /* nothing was written */
		c->saved = -1;
	}
}

/* The first line of what has been told since the last time; then all is forgotten. */
static void capture_take(struct capture *c)
{
	ssize_t n = c->memory >= 0 ? pread(c->memory, c->text, sizeof(c->text) - 1, 0) : 0;

	(void)fflush(stderr); /* it has no buffer */
	c->text[n > 0 ? n : 0] = '\0';
	c->text[strcspn(c->text, "\n")] = '\0';
	if (c->memory >= 0 && ftruncate(c->memory, 0) == 0) {
		(void)lseek(c->memory, 0, SEEK_SET); /* a file in memory */
	}
}

static void capture_end(struct capture *c)
{
	if (c->saved >= 0) {
		(void)dup2(c->saved, STDERR_FILENO); /* both are open */
		(void)close(c->saved);               /* as above */
	}
	if (c->memory >= 0) {
		(void)close(c->memory);
	}
}

static int ask(const struct mt_ctl *ctl, const char *verb, json_t **out)
{
	json_t *root = NULL;
	json_t *result = NULL;
	int status = mt_ctl_call(ctl, verb, NULL, &root, &result);

	if (status == 0) {
		*out = json_incref(result);
		json_decref(root);
	}
	return status;
}

static int take_sample(const struct mt_ctl *ctl, struct mt_top_sample *out)
{
	struct mt_top_sample s = {.at = seconds()};
	int status = ask(ctl, "status", &s.status);

	if (status == 0) {
		status = ask(ctl, "stats", &s.stats);
	}
	if (status == 0) {
		status = ask(ctl, "connections", &s.connections);
	}
	if (status != 0) {
		mt_top_sample_clear(&s);
		return status;
	}
	*out = s;
	return 0;
}

static void refresh(struct top *t)
{
	struct mt_top_sample next = {.status = NULL};

	if (take_sample(t->ctl, &next) != 0) {
		capture_take(&t->errors);
		t->view.problem =
			t->errors.text[0] != '\0' ? t->errors.text : "the daemon does not answer";
		return;
	}
	if (t->now.status != NULL && !json_equal(json_object_get(next.status, "pid"),
					     json_object_get(t->now.status, "pid"))) {
		mt_top_sample_clear(&t->now); /* a restart: no rates across it */
	}
	t->view.problem = NULL;
	mt_top_sample_clear(&t->before);
	t->before = t->now;
	t->now = next;
}

static int draw(struct top *t)
{
	mt_screen_size(t->screen, &t->view.columns, &t->view.lines);
	if (t->view.first >= t->rows) {
		t->view.first = t->rows > 0 ? t->rows - 1 : 0;
	}
	fputs("\033[H", stdout);
	if (mt_top_draw(stdout, &t->view, &t->rows) != 0) {
		return mt_ctl_fail(CTL_FAILED, "out of memory");
	}
	return fflush(stdout) == 0 && ferror(stdout) == 0 ? CTL_OK : CTL_FAILED;
}

/* False: the end. */
static bool handle_key(struct top *t, int key)
{
	switch (key) {
	case 'q':
	case 'Q':
	case 4: /* Ctrl-D */
	case MT_SCREEN_END: return false;
	case 'r': t->view.order = MT_TOP_BY_RATE; break;
	case 'n': t->view.order = MT_TOP_BY_NAME; break;
	case 'l': t->view.order = MT_TOP_BY_RTT; break;
	case 's': t->view.order = MT_TOP_BY_STREAMS; break;
	case 't': t->view.order = MT_TOP_BY_TOTAL; break;
	case 'c':
		t->view.by_client = !t->view.by_client;
		t->view.first = 0;
		break;
	case 'j':
	case MT_SCREEN_DOWN: t->view.first++; break;
	case 'k':
	case MT_SCREEN_UP: t->view.first -= t->view.first > 0; break;
	default: break;
	}
	return true;
}

static int loop(struct top *t)
{
	double due = seconds();
	int status = CTL_OK;

	while (status == CTL_OK) {
		double left;
		int key;

		if (seconds() >= due) {
			refresh(t);
			due = seconds() + INTERVAL_MS / 1000.0;
		}
		status = draw(t);
		left = due - seconds();
		key = status == CTL_OK
			      ? mt_screen_wait(t->screen, left > 0 ? (int)(left * 1000) + 1 : 0)
			      : MT_SCREEN_END;
		if (!handle_key(t, key)) {
			break;
		}
	}
	return status;
}

int mt_ctl_top(const struct mt_ctl *ctl, int argc, char **argv)
{
	struct top t = {.ctl = ctl, .errors = {.saved = -1, .memory = -1}};
	int status;
	int err;

	(void)argc;
	(void)argv;
	if (ctl->json || isatty(STDOUT_FILENO) != 1 || isatty(STDIN_FILENO) != 1) {
		return mt_ctl_fail(CTL_USAGE, "top needs a terminal; for programs there is "
					      "mytunnelctl --json connections");
	}
	t.view = (struct mt_top_view){.now = &t.now,
		.before = &t.before,
		.by_client = true,
		.color = ctl->color,
		.order = MT_TOP_BY_RATE};
	/* The first answer before the screen: what is wrong then stays readable. */
	status = take_sample(ctl, &t.now);
	if (status != 0) {
		return status;
	}
	err = mt_screen_open(&t.screen);
	if (err != 0) {
		status = mt_ctl_fail(
			CTL_FAILED, "the terminal cannot be used: %s", mt_strerror(err));
		goto out;
	}
	capture_start(&t.errors);
	status = loop(&t);
	capture_end(&t.errors);
	mt_screen_close(t.screen);
out:
	mt_top_sample_clear(&t.now);
	mt_top_sample_clear(&t.before);
	return status;
}
