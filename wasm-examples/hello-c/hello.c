/* hello-c: a WASI preview1 command in C. Prints its arguments and one environment variable, then exits with the status
 * given by EXIT_CODE (0 by default). */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    const char *who = getenv("WHO");
    const char *code = getenv("EXIT_CODE");
    printf("Hello from C, %s!\n", who ? who : "world");
    for (int i = 1; i < argc; i++) printf("argument %d: %s\n", i, argv[i]);
    fprintf(stderr, "this line goes to stderr\n");
    return code ? atoi(code) : 0;
}
