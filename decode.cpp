// Token ids back to text: prints the lines of an output.txt, a line of ids each, as the text that they stand for.
#include <getopt.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "fatal.hpp"
#include "tokenizer.hpp"

static const char *kUsage =
    "usage: decode [-z tokenizer.bin] [-n LINE|FIRST-LAST] [-r] [FILE]\n"
    "  FILE  token ids, separated by spaces, a request a line (default, and -: standard input)\n"
    "  -z    the tokenizer (default tokenizer.bin)\n"
    "  -n    this line only, or these, counted from 1 (default: all)\n"
    "  -r    raw: control characters too, which are left out otherwise, since a terminal would obey them\n";

// Reads a line without its end. False at the end of the file.
static bool read_line(FILE *file, std::string *line) {
  line->clear();
  int c;
  while ((c = getc(file)) != EOF && c != '\n') line->push_back((char)c);
  return c != EOF || !line->empty();
}

// Prints the text of one line of ids. place: file and line number, for errors.
static void print_text(Tokenizer *tokenizer, const std::string &line, const std::string &place, bool raw) {
  const char *separators = " \t\r";
  for (size_t start = 0;;) {
    start = line.find_first_not_of(separators, start);
    if (start == std::string::npos) break;
    const size_t end = std::min(line.find_first_of(separators, start), line.size());
    const std::string word = line.substr(start, end - start);
    const std::string column = place + ", column " + std::to_string(start + 1) + ": ";
    if (word.find_first_not_of("0123456789") != std::string::npos)
      fatal("%s'%.40s' is not a token id; the file must hold numbers only", column.c_str(), word.c_str());
    const long long id = word.size() > 18 ? LLONG_MAX : atoll(word.c_str());
    if (id >= tokenizer->vocab_size)
      fatal("%stoken id %.40s is above %d, the last of this tokenizer; give the model's own with -z", column.c_str(),
            word.c_str(), tokenizer->vocab_size - 1);
    if (raw)
      fwrite(tokenizer->vocab[id], 1, (size_t)tokenizer->lengths[id], stdout);
    else
      safe_printf(decode_piece(tokenizer, -1, (int)id));
    start = end;
  }
  putchar('\n');
}

int main(int argc, char **argv) {
  const char *tokenizer_path = "tokenizer.bin";
  long long first_line = 1, last_line = LLONG_MAX;
  bool raw = false;
  const option names[] = {{"help", no_argument, nullptr, 'h'}, {}};
  for (int found; (found = getopt_long(argc, argv, ":hrz:n:", names, nullptr)) != -1;) {
    if (found == 'h') {
      fputs(kUsage, stdout);
      return 0;
    }
    if (found == 'r') {
      raw = true;
    } else if (found == 'z') {
      tokenizer_path = optarg;
    } else if (found == 'n') {
      char *end;
      errno = 0;
      first_line = last_line = strtoll(optarg, &end, 10);
      if (*end == '-' && end[1] >= '0' && end[1] <= '9') last_line = strtoll(end + 1, &end, 10);
      if (first_line < 1 || last_line < first_line || *end || errno)
        fatal("-n needs a line number, 1 or more, or two as in 3-7, not '%s'", optarg);
    } else if (found == ':') {
      fatal("-%c needs a value; see decode -h", optopt);
    } else if (optopt) {
      fatal("unknown argument '-%c'; see decode -h", optopt);
    } else {
      fatal("unknown argument '%s'; see decode -h", argv[optind - 1]);
    }
  }
  if (argc - optind > 1)
    fatal("one file at a time, but '%s' and '%s' are given; see decode -h", argv[optind], argv[optind + 1]);
  const char *path = optind < argc ? argv[optind] : nullptr;

  const bool from_stdin = !path || strcmp(path, "-") == 0;
  const std::string name = from_stdin ? "standard input" : path;
  FILE *file = from_stdin ? stdin : fopen(path, "r");
  if (!file)
    fatal("%s: cannot open the token ids: %s; give the output file of run -m getp", name.c_str(), strerror(errno));
  Tokenizer tokenizer;
  read_whole_tokenizer(&tokenizer, tokenizer_path);

  std::string line;
  long long number = 0;
  while (number < last_line && read_line(file, &line)) {
    number++;
    if (number >= first_line) print_text(&tokenizer, line, name + ": line " + std::to_string(number), raw);
  }
  if (ferror(file)) fatal("%s: cannot read the token ids: %s", name.c_str(), strerror(errno));
  if (last_line != LLONG_MAX && number < last_line)
    fatal("%s: no line %lld, the file has %lld; give a smaller -n", name.c_str(), last_line, number);
  if (fflush(stdout) || ferror(stdout)) fatal("cannot write the text: %s", strerror(errno));
  fclose(file);
  free_tokenizer(&tokenizer);
  return 0;
}
