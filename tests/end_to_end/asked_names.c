// Libc's functions that look up names and connect, for LD_PRELOAD: they append each name, and each address outside this machine, to
// the file in the variable ASKED_NAMES. No name exists but localhost, so nothing is asked of the network.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void note(const char *asked) {
    const char *path = getenv("ASKED_NAMES");
    int file = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666) : -1;
    if (file < 0) return;
    dprintf(file, "%s\n", asked);
    close(file);
}

static int exists(const char *name) {
    unsigned char address[16];
    if (!name || inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1) return 1;
    note(name);
    return strcmp(name, "localhost") == 0;
}

static void note_address(const struct sockaddr *to) {
    char text[INET6_ADDRSTRLEN] = "";
    if (to && to->sa_family == AF_INET) {
        const struct in_addr *address = &((const struct sockaddr_in *)to)->sin_addr;
        if (*(const unsigned char *)address != 127) inet_ntop(AF_INET, address, text, sizeof text);
    } else if (to && to->sa_family == AF_INET6) {
        const struct in6_addr *address = &((const struct sockaddr_in6 *)to)->sin6_addr;
        if (!IN6_IS_ADDR_LOOPBACK(address)) inet_ntop(AF_INET6, address, text, sizeof text);
    }
    if (*text) note(text);
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    return exists(name) ? REAL(getaddrinfo)(name, service, hints, found) : EAI_NONAME;
}

struct hostent *gethostbyname(const char *name) {
    return exists(name) ? REAL(gethostbyname)(name) : NULL;
}

struct hostent *gethostbyname2(const char *name, int family) {
    return exists(name) ? REAL(gethostbyname2)(name, family) : NULL;
}

int gethostbyname_r(const char *name, struct hostent *host, char *buffer, size_t size, struct hostent **found, int *error) {
    if (exists(name)) return REAL(gethostbyname_r)(name, host, buffer, size, found, error);
    *found = NULL;
    *error = HOST_NOT_FOUND;
    return 0;
}

int connect(int socket, const struct sockaddr *to, socklen_t size) {
    note_address(to);
    return REAL(connect)(socket, to, size);
}

ssize_t sendto(int socket, const void *data, size_t length, int flags, const struct sockaddr *to, socklen_t size) {
    note_address(to);
    return REAL(sendto)(socket, data, length, flags, to, size);
}
