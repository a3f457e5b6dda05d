#include "daemon/control_socket.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define BACKLOG 64

static int check_dir(const char *dir, char *why, size_t why_cap)
{
	struct stat st;

	if (mkdir(dir, 0755) != 0 && errno != EEXIST) {
		int rv = -errno;

		(void)snprintf(why, why_cap,
			"cannot make the folder %s: %s; name another one with --runtime-dir", dir,
			mt_strerror(rv));
		return rv;
	}
	if (stat(dir, &st) != 0) {
		int rv = -errno;

		(void)snprintf(why, why_cap, "cannot use the folder %s: %s", dir, mt_strerror(rv));
		return rv;
	}
	if (!S_ISDIR(st.st_mode)) {
		(void)snprintf(why, why_cap, "%s is not a folder", dir);
		return -ENOTDIR;
	}
	/* Who may write here could put a socket of his own in our place. */
	if ((st.st_mode & S_IWOTH) != 0) {
		(void)snprintf(why, why_cap,
			"the folder %s may be written by everybody: chmod o-w %s", dir, dir);
		return MT_E_PERMS;
	}
	return 0;
}

/* Removes a socket whose daemon is gone. MT_E_BUSY when somebody answers. */
static int clear_stale(const struct sockaddr_un *addr, char *why, size_t why_cap)
{
	struct stat st;
	int fd;
	int rv = 0;

	if (lstat(addr->sun_path, &st) != 0) {
		return errno == ENOENT ? 0 : -errno;
	}
	if (!S_ISSOCK(st.st_mode)) {
		(void)snprintf(
			why, why_cap, "%s is in the way and is not a socket", addr->sun_path);
		return -EEXIST;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		return -errno;
	}
	/* EAGAIN: there is a listener, and its queue is full. */
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno == EAGAIN) {
		(void)snprintf(why, why_cap, "another mytunneld serves %s", addr->sun_path);
		rv = MT_E_BUSY;
	} else if (errno != ECONNREFUSED) {
		rv = -errno;
	} else if (unlink(addr->sun_path) != 0) {
		rv = -errno;
	}
	(void)close(fd); /* nothing was written */
	return rv;
}

int mt_control_socket_open(
	struct mt_control_socket *out, const char *dir, char *why, size_t why_cap)
{
	struct mt_control_socket s = {.fd = -1, .addr = {.sun_family = AF_UNIX}};
	mode_t mask = umask(0022);
	int len = snprintf(s.addr.sun_path, sizeof(s.addr.sun_path), "%s/control.sock", dir);
	int rv;

	why[0] = '\0';
	if (len < 0 || (size_t)len >= sizeof(s.addr.sun_path)) {
		(void)snprintf(why, why_cap,
			"the path of the control socket is too long: %s/control.sock (at most %zu "
			"bytes)",
			dir, sizeof(s.addr.sun_path) - 1);
		rv = MT_E_TOO_LONG;
		goto out;
	}
	rv = check_dir(dir, why, why_cap);
	if (rv == 0) {
		rv = clear_stale(&s.addr, why, why_cap);
	}
	if (rv != 0) {
		goto out;
	}
	s.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* 0666 from its first moment on: there is no chmod that could come late or meet another
	 * file. */
	(void)umask(0111);
	if (s.fd < 0 || bind(s.fd, (struct sockaddr *)&s.addr, sizeof(s.addr)) != 0) {
		rv = -errno;
		goto out;
	}
	if (listen(s.fd, BACKLOG) != 0) {
		rv = -errno;
		(void)unlink(s.addr.sun_path); /* ours, just made */
		goto out;
	}
	*out = s;
	s.fd = -1;
out:
	(void)umask(mask);
	if (s.fd >= 0) {
		(void)close(s.fd); /* nothing was written */
	}
	if (rv != 0 && why[0] == '\0') {
		(void)snprintf(
			why, why_cap, "cannot listen on %s: %s", s.addr.sun_path, mt_strerror(rv));
	}
	return rv;
}

void mt_control_socket_close(struct mt_control_socket *s)
{
	if (s->fd >= 0) {
		/* First the name, then the listener: whoever finds the name finds us. */
		(void)unlink(s->addr.sun_path);
		(void)close(s->fd); /* nothing was written */
		s->fd = -1;
	}
}
