// Logits after each token of a sequence, by forward and by forward_hip, to compare with another implementation
// (tests/test_snapshots.py does so with transformers).
//
//   print_logits model.bin ID...        two rows of vocab_size floats a token to standard output, forward's first
#define TESTING
#include "../run.cpp"

int main(int argc, char **argv) {
  if (argc < 3) fatal("usage: print_logits model.bin ID...");
  Transformer transformer;
  build_transformer(&transformer, argv[1]);
  const size_t vocab = transformer.config.vocab_size;
  warm_up_forward(&transformer);
  for (int pos = 0; pos + 2 < argc; pos++) {
    const int token = atoi(argv[pos + 2]);
    fwrite(forward(&transformer, token, pos), sizeof(float), vocab, stdout);
    fwrite(forward_hip(&transformer, token, pos), sizeof(float), vocab, stdout);
  }
  finish(&transformer, nullptr);
  free_transformer(&transformer);
  return ferror(stdout) || fflush(stdout) ? 1 : 0;
}
