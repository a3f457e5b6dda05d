/* Many clients in one process, each as `mytunnel connect` would be: a thread with a loop, memory, a
 * connection to the server and a socket of its own, and a SOCKS5 proxy on a port of its own.
 *
 *   clients PROFILE...
 *
 * One client for each profile. When all are connected it prints "realtime yes" or "realtime no",
 * and "ports N,N,..." in the order of the profiles; it runs until it is killed. They play machines
 * that have their cores to themselves, so they run at real-time priority where that is allowed.
 */
#include "client/listener.h"
#include "client/local.h"
#include "client/profile_file.h"
#include "client/udp_relay.h"
#include "client/uplink.h"
#include "proto/wire/err.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#define CLIENTS_MAX 1000
#define STACK_BYTES (256u * 1024)

struct client {
	pthread_t thread;
	const char *path; /* of the profile */
	uv_loop_t loop;
	struct mt_mem *mem;
	struct mt_poller *poller;
	struct mt_uplink *uplink;
	struct mt_udp_relay *udp;
	struct mt_locals *locals;
	struct mt_listener *listener;
	uint16_t port;
	bool connected;
};

static sem_t connected; /* posted by each client, once */

static _Noreturn void die(const char *what, int err)
{
	fprintf(stderr, "clients: %s: %s\n", what, mt_strerror(err));
	exit(1);
}

static void on_state(enum mt_uplink_state state, const char *reason, void *user)
{
	struct client *c = user;

	if (state == MT_UPLINK_FAILED) {
		fprintf(stderr, "clients: a connection: %s\n", reason);
		exit(1);
	}
	if (state == MT_UPLINK_CONNECTED && !c->connected) {
		c->connected = true;
		(void)sem_post(&connected); /* far below its maximum */
	}
}

static void on_datagram(const uint8_t *data, size_t len, void *user)
{
	struct client *c = user;

	mt_udp_relay_deliver(c->udp, data, len);
}

static void on_datagram_room(void *user)
{
	struct client *c = user;

	mt_udp_relay_resume(c->udp);
}

static void load_profile(struct mt_profile *profile, const char *path)
{
	char warning[MT_WHY_MAX], why[MT_WHY_MAX];

	if (mt_profile_load(profile, path, stdin, warning, why) < 0) {
		fprintf(stderr, "clients: %s\n", why);
		exit(1);
	}
}

static int connect_client(struct client *c)
{
	struct mt_uplink_config config = {
		.loop = &c->loop,
		.mem = c->mem,
		.poller = c->poller,
		.choice = MT_CHOICE_QUIC,
		.persistent = true,
		.on_state = on_state,
		.on_datagram = on_datagram,
		.on_datagram_room = on_datagram_room,
		.user = c,
	};
	struct mt_profile profile;
	int err;

	load_profile(&profile, c->path);
	config.profile = &profile;
	err = mt_uplink_new(&c->uplink, &config);
	mt_profile_deinit(&profile);
	return err;
}

static int listen_for(struct client *c)
{
	struct mt_locals_config config = {
		.loop = &c->loop, .mem = c->mem, .poller = c->poller, .uplink = c->uplink};
	struct mt_addr at, bound;
	int err;

	c->udp = mt_udp_relay_new(&c->loop, c->mem, c->poller, c->uplink);
	config.udp = c->udp;
	c->locals = c->udp != NULL ? mt_locals_new(&config) : NULL;
	if (c->locals == NULL) {
		return -ENOMEM;
	}
	err = mt_addr_parse(&at, "127.0.0.1:0");
	if (err == 0) {
		err = mt_listener_open(
			&c->listener, &c->loop, c->poller, c->locals, &at, NULL, &bound);
	}
	if (err == 0) {
		c->port = mt_addr_port(&bound);
	}
	return err;
}

static void start_client(struct client *c)
{
	int err = uv_loop_init(&c->loop);

	if (err == 0) {
		c->mem = mt_mem_new();
		err = c->mem != NULL ? mt_poller_new(&c->poller, &c->loop) : -ENOMEM;
	}
	if (err == 0) {
		err = connect_client(c);
	}
	if (err == 0) {
		err = listen_for(c);
	}
	if (err < 0) {
		die(c->path, err);
	}
}

static void *run_client(void *arg)
{
	struct client *c = arg;

	(void)uv_run(&c->loop, UV_RUN_DEFAULT); /* its handles stay: it does not end */
	return NULL;
}

/* What is held by threads that are started later too. */
static bool hurry(void)
{
	const struct sched_param first = {.sched_priority = 1};

	return sched_setscheduler(0, SCHED_FIFO, &first) == 0;
}

static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit); /* as many as there are, then */
	}
}

static void start_threads(struct client *clients, int count)
{
	pthread_attr_t attr;
	int err = pthread_attr_init(&attr);

	err = err == 0 ? pthread_attr_setstacksize(&attr, STACK_BYTES) : err;
	for (int i = 0; i < count && err == 0; i++) {
		err = pthread_create(&clients[i].thread, &attr, run_client, &clients[i]);
	}
	if (err != 0) {
		die("threads", -err);
	}
	(void)pthread_attr_destroy(&attr); /* was set up */
}

int main(int argc, char **argv)
{
	static struct client clients[CLIENTS_MAX];
	int count = argc - 1;
	bool realtime;

	if (count < 1 || count > CLIENTS_MAX || argv[1][0] == '-') {
		fputs("usage: clients PROFILE...\n", stderr);
		return 2;
	}
	raise_descriptor_limit();
	(void)signal(SIGPIPE, SIG_IGN);   /* a valid signal: cannot fail */
	(void)sem_init(&connected, 0, 0); /* with a value in range: cannot fail */
	for (int i = 0; i < count; i++) {
		clients[i].path = argv[i + 1];
		start_client(&clients[i]);
	}
	realtime = hurry();
	start_threads(clients, count);
	for (int i = 0; i < count;) {
		i += sem_wait(&connected) == 0 ? 1 : 0;
	}
	printf("realtime %s\n", realtime ? "yes" : "no");
	for (int i = 0; i < count; i++) {
		printf("%s%u", i == 0 ? "ports " : ",", clients[i].port);
	}
	printf("\n");
	(void)fflush(stdout); /* whoever does not read it waits in vain */
	for (;;) {
		(void)pthread_join(clients[0].thread, NULL); /* until the process is killed */
	}
}
