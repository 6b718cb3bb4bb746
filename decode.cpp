// Token ids back to text: prints the lines of an output.txt, a line of ids each, as the text that they stand for.
#include <getopt.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include "fatal.hpp"
#include "hip/whole_number.hpp"
#include "tokenizer.hpp"

static const char *kUsage =
    "usage: decode [-z tokenizer.bin] [-n LINE|FIRST-LAST] [-r | -x] [FILE]\n"
    "  FILE  token ids, separated by spaces, a request a line (default, and -: standard input)\n"
    "  -z    the tokenizer (default tokenizer.bin)\n"
    "  -n    this line only, or these, counted from 1 (default: all)\n"
    "  -r    raw: the bytes as they are; otherwise control characters and bidirectional overrides are left out, since\n"
    "        a terminal would obey them, and U+FFFD stands for what is not UTF-8\n"
    "  -x    for programs: the bytes of each token in hexadecimal digits, a space between tokens\n";

// Reads a line without its end. False at the end of the file.
static bool read_line(FILE *file, std::string *line) {
  line->clear();
  int c;
  while ((c = getc(file)) != EOF && c != '\n') line->push_back((char)c);
  return c != EOF || !line->empty();
}

static void print_raw(std::string_view bytes) { fwrite(bytes.data(), 1, bytes.size(), stdout); }

static void print_hex(std::string_view bytes) {
  for (const char byte : bytes) printf("%02x", (unsigned char)byte);
  putchar(' ');
}

// Prints the tokens of one line of ids, each by `print`. place: file and line number, for errors.
static void print_line(Tokenizer *tokenizer, const std::string &line, const std::string &place,
                       void (*print)(std::string_view)) {
  const char *separators = " \t\r";
  for (size_t start = 0;;) {
    start = line.find_first_not_of(separators, start);
    if (start == std::string::npos) break;
    const size_t end = std::min(line.find_first_of(separators, start), line.size());
    const std::string word = line.substr(start, end - start);
    const std::string column = place + ", column " + std::to_string(start + 1) + ": ";
    if (word.find_first_not_of("0123456789") != std::string::npos)
      fatal("%s'%.40s' is not a token id; the file must hold numbers only", column.c_str(), word.c_str());
    uint64_t id = 0;
    if (!getp_hip::read_number(word, 0, (uint64_t)tokenizer->vocab_size - 1, id))
      fatal("%stoken id %.40s is above %d, the last of this tokenizer; give the model's own with -z", column.c_str(),
            word.c_str(), tokenizer->vocab_size - 1);
    print({tokenizer->vocab[id], (size_t)tokenizer->lengths[id]});
    start = end;
  }
  print_text("\n");
}

int main(int argc, char **argv) {
  const char *tokenizer_path = "tokenizer.bin";
  uint64_t first_line = 1, last_line = UINT64_MAX;
  void (*print)(std::string_view) = print_text;
  const option names[] = {{"help", no_argument, nullptr, 'h'}, {}};
  for (int found; (found = getopt_long(argc, argv, ":hrxz:n:", names, nullptr)) != -1;) {
    if (found == 'h') {
      fputs(kUsage, stdout);
      return 0;
    }
    if (found == 'r' || found == 'x') {
      print = found == 'r' ? print_raw : print_hex;
    } else if (found == 'z') {
      tokenizer_path = optarg;
    } else if (found == 'n') {
      const std::string_view lines = optarg;
      const size_t dash = lines.find('-');
      const std::string_view last = dash < lines.size() ? lines.substr(dash + 1) : lines;
      if (!getp_hip::read_number(lines.substr(0, dash), 1, UINT64_MAX - 1, first_line) ||
          !getp_hip::read_number(last, first_line, UINT64_MAX - 1, last_line))
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
  uint64_t number = 0;
  while (number < last_line && read_line(file, &line)) {
    number++;
    if (number >= first_line) print_line(&tokenizer, line, name + ": line " + std::to_string(number), print);
  }
  if (ferror(file)) fatal("%s: cannot read the token ids: %s", name.c_str(), strerror(errno));
  if (last_line != UINT64_MAX && number < last_line)
    fatal("%s: no line %llu, the file has %llu; give a smaller -n", name.c_str(), (unsigned long long)last_line,
          (unsigned long long)number);
  if (fflush(stdout) || ferror(stdout)) fatal("cannot write the text: %s", strerror(errno));
  fclose(file);
  free_tokenizer(&tokenizer);
  return 0;
}
