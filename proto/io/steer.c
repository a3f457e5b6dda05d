#include "proto/io/steer.h"

#include "proto/io/udp.h"
#include "proto/quic/endpoint.h"

#include <errno.h>
#include <sys/socket.h>

/* Offsets in the UDP payload, from where the program reads (RFC 9000, section 17): the connection
 * id of a short header begins at 1; a long header has the id's length at 5 and the id from 6 on.
 */
enum {
	SHORT_WORKER = 1,
	SHORT_TAG = 2,
	LONG_ID_LEN = 5,
	LONG_WORKER = 6,
	LONG_TAG = 7,
	/* No QUIC packet of any use is shorter (hardening: dropped before parsing), and every load
	 * lies within: a load past the end would end the program with 0 and give worker 0 all the
	 * junk.
	 */
	SHORTEST = 21,
	OUT_OF_RANGE = 0xffff,
};

#define LONG_FORM 0x80

size_t mt_steer_program(struct sock_filter *prog, uint8_t workers, uint8_t tag)
{
	const uint32_t count = workers == 0 ? 1 : workers;
	const struct sock_filter insns[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, SHORTEST, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, OUT_OF_RANGE),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, LONG_FORM, 7, 0),
		/* short header */
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, SHORT_TAG),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, tag, 0, 2),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, SHORT_WORKER),
		BPF_STMT(BPF_RET | BPF_A, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, SHORT_WORKER),
		BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, count),
		BPF_STMT(BPF_RET | BPF_A, 0),
		/* long header */
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, LONG_ID_LEN),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MT_CID_LEN, 0, 4),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, LONG_TAG),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, tag, 0, 2),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, LONG_WORKER),
		BPF_STMT(BPF_RET | BPF_A, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, LONG_WORKER),
		BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, count),
		BPF_STMT(BPF_RET | BPF_A, 0),
	};
	const size_t n = sizeof(insns) / sizeof(insns[0]);

	_Static_assert(sizeof(insns) / sizeof(insns[0]) <= MT_STEER_MAX, "program too long");
	for (size_t i = 0; i < n; i++) {
		prog[i] = insns[i];
	}
	return n;
}

int mt_udp_steer(struct mt_udp_socket *s, uint8_t workers, uint8_t tag)
{
	struct sock_filter insns[MT_STEER_MAX];
	struct sock_fprog prog = {
		.len = (unsigned short)mt_steer_program(insns, workers, tag), .filter = insns};

	if (setsockopt(s->fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &prog, sizeof(prog)) != 0) {
		return -errno;
	}
	return 0;
}
