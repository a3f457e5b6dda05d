/* Counts what each thread of a program asks of the heap: LD_PRELOAD=libcount_malloc.so with
 * MYTUNNEL_MALLOC_COUNTS naming a file that another process made, large enough and full of zeros,
 * and reads while this one runs. Blocks that are given back are not counted, so a `realloc` is one.
 */
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define THREADS_MAX 256
#define TRACES_MAX  256
#define FRAMES_MAX  20

/* tests/integration/mallocs.py knows this layout. */
struct thread_count {
	_Atomic uint64_t tid;
	_Atomic uint64_t allocations;
	_Atomic uint64_t maps;
};

struct trace {
	uint64_t tid;
	uint64_t frames[FRAMES_MAX]; /* return addresses, then zeros */
};

struct counts {
	_Atomic uint64_t tracing; /* set by the reader: keep the stacks of the next ones */
	_Atomic uint64_t thread_count;
	_Atomic uint64_t trace_count;
	struct thread_count threads[THREADS_MAX];
	struct trace traces[TRACES_MAX];
};

/* The C library's own, under the names that it exports for this. */
void *__libc_malloc(size_t len);
void *__libc_calloc(size_t count, size_t len);
void *__libc_realloc(void *ptr, size_t len);
void *__libc_memalign(size_t alignment, size_t len);

static struct counts *counts;
static __thread struct thread_count *mine __attribute__((tls_model("initial-exec")));
static __thread bool inside __attribute__((tls_model("initial-exec")));

static void keep_trace(uint64_t tid)
{
	uint64_t i = atomic_fetch_add(&counts->trace_count, 1);
	void *frames[FRAMES_MAX];
	int n;

	if (i >= TRACES_MAX) {
		return;
	}
	n = backtrace(frames, FRAMES_MAX);
	for (int k = 0; k < n; k++) {
		counts->traces[i].frames[k] = (uint64_t)(uintptr_t)frames[k];
	}
	counts->traces[i].tid = tid;
}

static struct thread_count *own_count(void)
{
	uint64_t i;

	if (mine == NULL) {
		i = atomic_fetch_add(&counts->thread_count, 1);
		mine = &counts->threads[i < THREADS_MAX ? i : THREADS_MAX - 1];
		atomic_store(&mine->tid, (uint64_t)gettid());
	}
	return mine;
}

static void count(bool map)
{
	struct thread_count *c;

	if (counts == NULL || inside) {
		return;
	}
	inside = true;
	c = own_count();
	atomic_fetch_add(map ? &c->maps : &c->allocations, 1);
	if (atomic_load(&counts->tracing) != 0 && !map) {
		keep_trace(c->tid);
	}
	inside = false;
}

void *malloc(size_t len)
{
	count(false);
	return __libc_malloc(len);
}

void *calloc(size_t n, size_t len)
{
	count(false);
	return __libc_calloc(n, len);
}

void *realloc(void *ptr, size_t len)
{
	count(false);
	return __libc_realloc(ptr, len);
}

void *reallocarray(void *ptr, size_t n, size_t len)
{
	size_t total;

	if (__builtin_mul_overflow(n, len, &total)) {
		errno = ENOMEM;
		return NULL;
	}
	count(false);
	return __libc_realloc(ptr, total);
}

void *memalign(size_t alignment, size_t len)
{
	count(false);
	return __libc_memalign(alignment, len);
}

void *aligned_alloc(size_t alignment, size_t len)
{
	return memalign(alignment, len);
}

int posix_memalign(void **out, size_t alignment, size_t len)
{
	void *ptr = memalign(alignment, len);

	if (ptr == NULL) {
		return ENOMEM;
	}
	*out = ptr;
	return 0;
}

void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	long rv = syscall(SYS_mmap, addr, len, prot, flags, fd, off);

	count(true);
	return (void *)rv; /* MAP_FAILED is -1 */
}

__attribute__((constructor)) static void attach(void)
{
	const char *path = getenv("MYTUNNEL_MALLOC_COUNTS");
	void *first[1];
	void *map;
	int fd;

	(void)backtrace(first, 1); /* loads its library now */
	fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
	if (fd < 0) {
		return;
	}
	map = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	(void)close(fd);
	if (map != MAP_FAILED) {
		counts = map;
	}
}
