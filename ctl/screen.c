#include "ctl/screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

/* Alternate screen, no cursor, no line wrapping; and back. */
#define ENTER "\033[?1049h\033[?25l\033[?7l\033[2J"
#define LEAVE "\033[?7h\033[?25h\033[?1049l"

struct mt_screen {
	struct termios before;
	sigset_t signals_before;
	struct sigaction stop_before;
	int signal_fd;
};

static bool tell(const char *text)
{
	size_t left = strlen(text);

	while (left > 0) {
		ssize_t n = write(STDOUT_FILENO, text, left);

		if (n <= 0 && errno != EINTR) {
			return false;
		}
		if (n > 0) {
			text += n;
			left -= (size_t)n;
		}
	}
	return true;
}

int mt_screen_open(struct mt_screen **out)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	struct mt_screen *s;
	struct termios raw;
	sigset_t signals;
	int err;

	if (isatty(STDIN_FILENO) != 1 || isatty(STDOUT_FILENO) != 1) {
		return MT_E_UNSUPPORTED;
	}
	s = calloc(1, sizeof(*s));
	if (s == NULL) {
		return -ENOMEM;
	}
	/* These cannot fail with valid numbers. */
	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGINT);
	(void)sigaddset(&signals, SIGTERM);
	(void)sigaddset(&signals, SIGHUP);
	(void)sigaddset(&signals, SIGQUIT);
	(void)sigaddset(&signals, SIGWINCH);
	(void)sigprocmask(SIG_BLOCK, &signals, &s->signals_before);
	/* A stopped process would leave its picture on the shell's screen. */
	(void)sigaction(SIGTSTP, &ignore, &s->stop_before);
	s->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signal_fd < 0 || tcgetattr(STDIN_FILENO, &s->before) != 0) {
		err = -errno;
		goto fail;
	}
	raw = s->before;
	raw.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
	raw.c_cc[VMIN] = 0;
	raw.c_cc[VTIME] = 0;
	if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw) != 0) {
		err = -errno;
		goto fail;
	}
	if (!tell(ENTER)) {
		err = -errno;
		(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &s->before); /* as far as possible */
		goto fail;
	}
	*out = s;
	return 0;
fail:
	if (s->signal_fd >= 0) {
		(void)close(s->signal_fd); /* nothing was written */
	}
	(void)sigaction(SIGTSTP, &s->stop_before, NULL); /* as above */
	(void)sigprocmask(SIG_SETMASK, &s->signals_before, NULL);
	free(s);
	return err;
}

void mt_screen_close(struct mt_screen *s)
{
	if (s == NULL) {
		return;
	}
	(void)tell(LEAVE); /* a terminal that has gone needs nothing */
	(void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &s->before);
	(void)close(s->signal_fd);                       /* nothing was written */
	(void)sigaction(SIGTSTP, &s->stop_before, NULL); /* valid numbers */
	(void)sigprocmask(SIG_SETMASK, &s->signals_before, NULL);
	free(s);
}

void mt_screen_size(const struct mt_screen *s, unsigned *columns, unsigned *lines)
{
	struct winsize size = {0};

	(void)s;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) {
		size.ws_col = 80;
		size.ws_row = 24;
	}
	*columns = size.ws_col;
	*lines = size.ws_row;
}

static int read_signal(struct mt_screen *s)
{
	struct signalfd_siginfo info;
	int event = MT_SCREEN_TIMEOUT;

	while (read(s->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo != SIGWINCH) {
			return MT_SCREEN_END;
		}
		event = MT_SCREEN_RESIZED;
	}
	return event;
}

static int read_key(void)
{
	unsigned char keys[16];
	ssize_t n = read(STDIN_FILENO, keys, sizeof(keys));

	if (n <= 0) {
		return n < 0 && errno == EINTR ? MT_SCREEN_TIMEOUT : MT_SCREEN_END;
	}
	if (n >= 3 && keys[0] == '\033' && (keys[1] == '[' || keys[1] == 'O')) {
		switch (keys[2]) {
		case 'A': return MT_SCREEN_UP;
		case 'B': return MT_SCREEN_DOWN;
		default: return MT_SCREEN_TIMEOUT; /* some other key of its own */
		}
	}
	return keys[0];
}

int mt_screen_wait(struct mt_screen *s, int timeout_ms)
{
	struct pollfd fds[2] = {
		{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = s->signal_fd, .events = POLLIN}};
	int rv = poll(fds, 2, timeout_ms);

	if (rv < 0) {
		return errno == EINTR ? MT_SCREEN_TIMEOUT : MT_SCREEN_END;
	}
	if (fds[1].revents != 0) {
		return read_signal(s);
	}
	if (fds[0].revents != 0) {
		return read_key();
	}
	return MT_SCREEN_TIMEOUT;
}
