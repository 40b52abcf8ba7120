/* Words from stdin, 32 bits each, for a battery of TestU01: SmallCrush, or Crush where asked.
 * cc smallcrush.c -I$TESTU01/include -L$TESTU01/lib -ltestu01 -lprobdist -lmylib -lm */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bbattery.h"
#include "swrite.h"
#include "unif01.h"

static unsigned int next(void) {
    static unsigned int held[1 << 14];
    static size_t at, number;
    if (at == number) {
        number = fread(held, sizeof *held, sizeof held / sizeof *held, stdin);
        at = 0;
        if (number == 0) {
            fputs("the stream has ended\n", stderr);
            exit(3);
        }
    }
    return held[at++];
}

int main(int count, char **arguments) {
    unif01_Gen *stream = unif01_CreateExternGenBits("thinned", next);
    swrite_Basic = FALSE;
    if (count > 1 && !strcmp(arguments[1], "crush"))
        bbattery_Crush(stream);
    else
        bbattery_SmallCrush(stream);
    unif01_DeleteExternGenBits(stream);
    return 0;
}
