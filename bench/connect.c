/* Connections a second: `connect serve PORT` accepts and closes, `connect ADDRESS PORT SECONDS` connects and
 * resets as fast as it can and prints how many it made. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static int serve(struct sockaddr_in *where) {
    int one = 1, server = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(server, (struct sockaddr *)where, sizeof *where) || listen(server, 4096)) {
        perror("listen");
        return 1;
    }
    puts("ready");
    fflush(stdout);
    for (;;)
        close(accept(server, NULL, NULL));
}

int main(int argc, char **argv) {
    struct sockaddr_in where = {.sin_family = AF_INET};
    struct linger reset = {1, 0};
    if (argc == 3 && !strcmp(argv[1], "serve")) {
        where.sin_port = htons(atoi(argv[2]));
        return serve(&where);
    }
    if (argc != 4 || !inet_aton(argv[1], &where.sin_addr))
        return 64;
    where.sin_port = htons(atoi(argv[2]));
    long made = 0;
    double start = now(), end = start + atof(argv[3]);
    while (now() < end) {
        int client = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(client, (struct sockaddr *)&where, sizeof where)) {
            perror("connect");
            return 1;
        }
        setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(client);
        made++;
    }
    printf("%.1f\n", made / (now() - start));
    return 0;
}
