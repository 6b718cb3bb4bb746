// Encodes texts and prints their ids, one line a text, to compare with another tokenizer
// (tests/test_tokenizer_parity.py does so with tiktoken). Ends with status 1 if a text's ids do not decode to its
// bytes.
//
//   print_ids tokenizer.bin -t TEXT     the text itself
//   print_ids tokenizer.bin FILE        the text of a file; NUL bytes in it, if any, separate texts
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "../fatal.hpp"
#include "../tokenizer.hpp"

static void print_ids(Tokenizer *tokenizer, const char *text) {
  std::vector<int> ids(strlen(text) + 2);
  int count = 0;
  encode(tokenizer, text, -1, -1, ids.data(), &count, (int)ids.size());
  std::string back;
  for (int i = 0; i < count; i++) {
    printf("%s%d", i ? " " : "", ids[i]);
    back += decode_piece(tokenizer, i ? ids[i - 1] : -1, ids[i]);
  }
  printf("\n");
  if (back != text) fatal("the ids decode to '%s' instead of '%s'", back.c_str(), text);
}

int main(int argc, char **argv) {
  const bool from_argument = argc == 4 && strcmp(argv[2], "-t") == 0;
  if (argc != 3 && !from_argument) {
    fprintf(stderr, "error: usage: print_ids tokenizer.bin (-t TEXT | FILE)\n");
    return 1;
  }
  Tokenizer tokenizer;
  read_whole_tokenizer(&tokenizer, argv[1]);
  if (from_argument) {
    print_ids(&tokenizer, argv[3]);
  } else {
    FILE *file = fopen(argv[2], "rb");
    std::string texts;
    if (file) {
      char buffer[1 << 16];
      while (const size_t got = fread(buffer, 1, sizeof buffer, file)) texts.append(buffer, got);
    }
    if (!file || ferror(file)) {
      fprintf(stderr, "error: %s: cannot read the text: %s\n", argv[2], strerror(errno));
      return 1;
    }
    fclose(file);
    for (size_t start = 0; start <= texts.size(); start += strlen(texts.c_str() + start) + 1)
      print_ids(&tokenizer, texts.c_str() + start);
  }
  free_tokenizer(&tokenizer);
  if (fflush(stdout)) {
    fprintf(stderr, "error: cannot write the ids: %s\n", strerror(errno));
    return 1;
  }
  return 0;
}
