#include "web/http.h"

#include "proto/wire/encode.h"
#include "web/request.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 256
/* What the system holds of an answer for a peer that does not read; its own limit is megabytes, and
 * such a peer is cut only when this is full. Connections inherit it. */
#define SEND_BYTES (64 * 1024)
#define PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct mt_web {
	struct mt_hub *hub;
	struct mt_hub_user user;
	struct mt_web_name name;
	size_t count;
	struct mt_web_site sites[MT_WEB_ADDRS_MAX];
};

/* libmicrohttpd prints to standard error otherwise, in lines of its own shape. */
static void ignore_log(void *user, const char *format, va_list args)
{
	(void)user;
	(void)format;
	(void)args;
}

static int open_socket(const struct mt_addr *addr, struct mt_addr *local)
{
	int on = 1;
	int send_bytes = SEND_BYTES;
	struct sockaddr_storage name;
	socklen_t len = sizeof(name);
	int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int rv = 0;

	if (fd < 0) {
		return -errno;
	}
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_bytes, sizeof(send_bytes)) != 0 ||
		(addr->sa.sa_family == AF_INET6 &&
			setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) != 0) ||
		bind(fd, &addr->sa, addr->len) != 0 || listen(fd, BACKLOG) != 0 ||
		getsockname(fd, (struct sockaddr *)&name, &len) != 0) {
		rv = -errno;
	} else {
		rv = mt_addr_from_sockaddr(local, (struct sockaddr *)&name, len);
	}
	if (rv != 0) {
		(void)close(fd); /* nothing was written */
		return rv;
	}
	return fd;
}

static struct MHD_Daemon *start_daemon(
	struct mt_web_site *site, const struct mt_web_config *config, int fd)
{
	const struct MHD_OptionItem tls[] = {
		{MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)config->chain_pem},
		{MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)config->key_pem},
		{MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)PRIORITIES},
		{MHD_OPTION_END, 0, NULL},
	};
	const struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
	unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ERROR_LOG |
			 MHD_ALLOW_SUSPEND_RESUME | (site->secured ? MHD_USE_TLS : 0u);

	/* The strict mode refuses requests with conflicting lengths instead of guessing. The daemon
	 * owns the socket then. */
	return MHD_start_daemon(flags, 0, NULL, NULL, mt_web_on_request, site,
		MHD_OPTION_EXTERNAL_LOGGER, ignore_log, NULL, MHD_OPTION_LISTEN_SOCKET, fd,
		MHD_OPTION_NOTIFY_COMPLETED, mt_web_on_completed, site, MHD_OPTION_CONNECTION_LIMIT,
		(unsigned)MT_WEB_CONNECTIONS_MAX, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
		(unsigned)MT_WEB_PER_IP_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
		(unsigned)MT_WEB_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
		(size_t)MT_WEB_MEMORY_BYTES, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_ARRAY,
		site->secured ? tls : none, MHD_OPTION_END);
}

static int start_site(struct mt_web *web, struct mt_web_site *site,
	const struct mt_web_config *config, const struct mt_addr *addr)
{
	int fd = open_socket(addr, &site->addr);

	if (fd < 0) {
		return fd;
	}
	site->view = config->view;
	site->hub = web->hub;
	site->user = &web->user;
	site->secured = config->chain_pem != NULL;
	memcpy(site->token, config->token, sizeof(site->token));
	site->name = &web->name;
	(void)mt_addr_format(&site->addr, site->local, sizeof(site->local));
	site->daemon = start_daemon(site, config, fd);
	if (site->daemon == NULL) {
		(void)close(fd); /* nothing was written */
		return -ENOMEM;
	}
	return 0;
}

int mt_web_start(struct mt_web **out, const struct mt_web_config *config, size_t *failed)
{
	struct mt_web *web;

	if (config->count > MT_WEB_ADDRS_MAX) {
		*failed = MT_WEB_ADDRS_MAX;
		return MT_E_LIMIT;
	}
	web = calloc(1, sizeof(*web));
	if (web == NULL) {
		*failed = 0;
		return -ENOMEM;
	}
	if (pthread_mutex_init(&web->name.lock, NULL) != 0) {
		free(web);
		*failed = 0;
		return -ENOMEM;
	}
	web->hub = config->hub;
	mt_web_set_name(web, config->name);
	for (size_t i = 0; i < config->count; i++) {
		int rv = start_site(web, &web->sites[i], config, &config->addrs[i]);

		if (rv != 0) {
			*failed = i;
			mt_web_stop(web);
			return rv;
		}
		web->count++;
	}
	*out = web;
	return 0;
}

void mt_web_stop(struct mt_web *web)
{
	if (web == NULL) {
		return;
	}
	/* A daemon must not be stopped while requests of its are suspended. */
	mt_hub_release(web->hub, &web->user);
	for (size_t i = 0; i < web->count; i++) {
		MHD_stop_daemon(web->sites[i].daemon); /* closes the listening socket too */
		mt_wipe(web->sites[i].token, sizeof(web->sites[i].token));
	}
	(void)pthread_mutex_destroy(&web->name.lock); /* nobody holds it any more */
	free(web);
}

void mt_web_set_name(struct mt_web *web, const char *name)
{
	if (web == NULL) {
		return;
	}
	(void)pthread_mutex_lock(&web->name.lock); /* held by nobody of this thread */
	/* A longer name than a host can have calls nobody. */
	(void)snprintf(web->name.text, sizeof(web->name.text), "%s", name != NULL ? name : "");
	(void)pthread_mutex_unlock(&web->name.lock); /* is held */
}

size_t mt_web_addrs(const struct mt_web *web, struct mt_addr *out, size_t cap)
{
	size_t n = 0;

	for (; web != NULL && n < web->count && n < cap; n++) {
		out[n] = web->sites[n].addr;
	}
	return n;
}

bool mt_web_is_secured(const struct mt_web *web)
{
	return web != NULL && web->count > 0 && web->sites[0].secured;
}
