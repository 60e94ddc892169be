"""Does the native transport model give the answers of `hycs_std`?"""
