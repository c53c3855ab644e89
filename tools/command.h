/*
 * The subcommands of the `traceparent` command. Each is called with what
 * follows the command's name; argv[0] is its own name for messages. Each
 * returns what the command exits with. docs/command.md is the contract.
 */

#ifndef COMMAND_H
#define COMMAND_H


#define COMMAND_OK      0
#define COMMAND_FAILED  1 /* invalid input, or the system said no */
#define COMMAND_USAGE   2 /* the command line makes no sense */
#define COMMAND_MISSING 3 /* what was asked for is not there */


int command_parse(int argc, char **argv);
int command_new(int argc, char **argv);
int command_child(int argc, char **argv);
int command_state(int argc, char **argv);
int command_receive(int argc, char **argv);


/* Says on stderr where help is, and returns COMMAND_USAGE. */
int command_usage(const char *name);


#endif
