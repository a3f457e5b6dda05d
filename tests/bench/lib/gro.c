/* Preloaded into a program that understands coalesced packets but does not ask its UDP sockets for
 * them: asks when they are bound. */
#include <dlfcn.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stddef.h>
#include <sys/socket.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

int bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	static int (*next)(int, const struct sockaddr *, socklen_t);
	int one = 1, type = 0;
	socklen_t size = sizeof(type);

	if (next == NULL) {
		*(void **)&next = dlsym(RTLD_NEXT, "bind");
	}
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_DGRAM) {
		(void)setsockopt(fd, IPPROTO_UDP, UDP_GRO, &one, sizeof(one)); /* or as before */
	}
	return next(fd, addr, len);
}
