#include "proto/io/pipes.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct mt_pipes {
	struct mt_pipe *idle;
	size_t idle_count;
	size_t used;
	mt_counter *missing;
};

struct mt_pipes *mt_pipes_new(mt_counter *missing)
{
	struct mt_pipes *pipes = calloc(1, sizeof(*pipes));

	if (pipes != NULL) {
		pipes->missing = missing;
	}
	return pipes;
}

static void destroy(struct mt_pipe *pipe)
{
	(void)close(pipe->read_fd); /* what it holds is nobody's any more */
	(void)close(pipe->write_fd);
	free(pipe);
}

void mt_pipes_free(struct mt_pipes *pipes)
{
	struct mt_pipe *next;

	if (pipes == NULL) {
		return;
	}
	assert(pipes->used == 0);
	for (struct mt_pipe *pipe = pipes->idle; pipe != NULL; pipe = next) {
		next = pipe->next;
		destroy(pipe);
	}
	free(pipes);
}

/* NULL: there is none, for the reason in `err`. */
static struct mt_pipe *create(int *err)
{
	struct mt_pipe *pipe = malloc(sizeof(*pipe));
	int fds[2];

	if (pipe == NULL) {
		*err = -ENOMEM;
		return NULL;
	}
	if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) != 0) {
		*err = -errno;
		free(pipe);
		return NULL;
	}
	/* Beyond fs.pipe-user-pages-soft pipes stay small, and cost more calls. */
	(void)fcntl(fds[1], F_SETPIPE_SZ, MT_PIPE_BYTES);
	pipe->read_fd = fds[0];
	pipe->write_fd = fds[1];
	return pipe;
}

int mt_pipes_get(struct mt_pipes *pipes, struct mt_pipe **out)
{
	struct mt_pipe *pipe = pipes->idle;
	int err = 0;

	if (pipe != NULL) {
		pipes->idle = pipe->next;
		pipes->idle_count--;
	} else {
		pipe = create(&err);
		if (pipe == NULL) {
			mt_count(pipes->missing, 1);
			return err;
		}
	}
	pipe->held = 0;
	pipe->next = NULL;
	pipes->used++;
	*out = pipe;
	return 0;
}

void mt_pipes_put(struct mt_pipes *pipes, struct mt_pipe *pipe)
{
	pipes->used--;
	if (pipe->held > 0 || pipes->idle_count == MT_PIPES_IDLE) {
		destroy(pipe);
		return;
	}
	pipe->next = pipes->idle;
	pipes->idle = pipe;
	pipes->idle_count++;
}

size_t mt_pipes_in_use(const struct mt_pipes *pipes)
{
	return pipes->used;
}
