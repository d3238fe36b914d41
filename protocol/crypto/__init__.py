"""Signatures, sealed blobs, Merkle trees and the authenticated state tree."""
